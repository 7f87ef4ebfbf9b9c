"""Whatever a provider sends, no step of reading it blocks the other answers of its worker."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.integration.providers.answers import END, chunk, read, spec
from tests.integration.providers.wire import Exchange, serving
from tokenwire.providers.http import HttpClient

LONGEST_STEP_S = 0.5
"""Processor time, which the test's server shares. The lease of an answer is 3 s."""
PIECE = 64 * 1024


def parts(number: int) -> bytes:
    delta = {"content": [{"type": "odd", "x": at} for at in range(number)]}
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"


BODIES: dict[str, Callable[[], bytes]] = {
    "lines": lambda: b"data: x\n" * 500_000 + b"\n",
    "lines of JSON": lambda: b"data: {}\n" * 500_000 + b"\n",
    "lists": lambda: b'data: {"x":[' + b"[]," * 5_000_000 + b"[]]}\n\n",
    "lists in a line": lambda: b'{"x":[' + b"[]," * 5_000_000 + b"[]]}\n",
    "strings in a line": lambda: b'{"x":[' + b'"",' * 3_000_000 + b'""]}\n',
    "objects in a line": lambda: b"{}" * 500_000 + b"\n",
    "parts": lambda: parts(200_000),
    "endless numbers": lambda: b'data: {"x":[' + (b"9" * 4000 + b",") * 3000 + b"9]}\n\n",
    "small events": lambda: chunk("x") * 30_000 + END,
    "small lines": lambda: b"x\n" * 200_000,
    "a long text": lambda: chunk("x, " * 2_000_000) + END,
}


async def longest_step(work: Awaitable[object]) -> float:
    """Processor time between two turns of a task that is always ready."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.process_time()
            await asyncio.sleep(0)
            longest = max(longest, time.process_time() - began)

    ticker = asyncio.create_task(tick())
    await work
    await asyncio.sleep(0)
    ticker.cancel()
    return longest


@pytest.mark.sampled(6)
@pytest.mark.parametrize("shape", BODIES)
async def test_no_step_takes_long(client: HttpClient, shape: str) -> None:
    """The best of three, since a busy machine takes longer for the same step."""
    body = BODIES[shape]()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for start in range(0, len(body), PIECE):
            await exchange.send(body[start : start + PIECE])
        await exchange.end()

    async with serving(script) as server:
        best = min([await longest_step(read(client, spec(server.url))) for _ in range(3)])
    assert best < LONGEST_STEP_S
