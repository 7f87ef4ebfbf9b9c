"""A long body of a logged-in client delays nobody, whatever it holds.

`benchmarks/bodies.py` has more shapes and exact times.
"""

import asyncio
import gc
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.integration.bodies import DIALECTS, Standstill, bodies, post
from tests.integration.raw import fragment, handshake, raw
from tests.integration.serving import serving

LONGEST_SECONDS = 0.3
"""The goal is 0.05 s, which a busy machine misses. Without the measures it was 27 s."""
SHAPES = (
    "escapes",
    "half characters",
    "lists",
    "more lists than may be",
    "members",
    "members of the body",
    "what is meant",
)
FREE = {
    "max_stored_bytes_per_user": 0,
    "max_unfinished_per_user": 0,
    "posts_per_minute_per_address": 0,
}


@pytest.fixture(scope="module", autouse=True)
def young_garbage() -> None:
    """Before each try, garbage is collected: not again what hundreds of other tests have left."""
    gc.collect()
    gc.freeze()


async def standstill(work: Callable[[], Awaitable[object]]) -> float:
    """The shortest of three tries. What other processes of a busy machine take does not count."""
    found = []
    for _ in range(3):
        gc.collect()
        async with Standstill() as watched:
            await work()
        found.append(min(watched.seconds, watched.cpu_seconds))
        if found[-1] < LONGEST_SECONDS / 2:
            break
    return min(found)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_long_body_delays_nobody(tmp_path: Path, dialect: str) -> None:
    """In every dialect, without a server error."""
    async with serving(tmp_path, **FREE) as web:
        for path, shape, body in bodies(dialect, SHAPES):
            statuses: list[int] = []

            async def send(
                path: str = path, body: bytes = body, statuses: list[int] = statuses
            ) -> None:
                statuses.append(await asyncio.to_thread(post, web.port, path, body))

            assert await standstill(send) < LONGEST_SECONDS, shape
            assert max(statuses) < 500, shape


async def test_a_long_history_delays_nobody(tmp_path: Path) -> None:
    """Thousands of messages are parsed, stored and listed in slices."""
    async with serving(tmp_path, **FREE) as web:
        said = [{"role": "user", "content": str(number)} for number in range(3000)]
        body = json.dumps({"model": "demo", "background": True, "input": said}).encode()

        async def ask() -> None:
            assert await asyncio.to_thread(post, web.port, "/v1/responses", body) == 200

        assert await standstill(ask) < LONGEST_SECONDS
        made = (await web.client.post("/v1/responses", content=body)).json()["id"]

        async def read() -> None:
            items = (await web.client.get(f"/v1/responses/{made}/input_items?limit=2")).json()
            assert [item["content"][0]["text"] for item in items["data"]] == ["2999", "2998"]
            assert items["has_more"]

        assert await standstill(read) < LONGEST_SECONDS


async def test_a_long_frame_delays_nobody(tmp_path: Path) -> None:
    """On the chat's socket."""
    async with serving(tmp_path, **FREE) as web, raw(web.port) as client:
        await client.send(handshake("/api/chat/ws"))
        assert " 101 " in await client.head()
        first = {"type": "resume", "requestId": "0", "id": "none"}
        await client.send(fragment(json.dumps(first).encode(), first=True, last=True))
        async with asyncio.timeout(20):
            await client.reader.readuntil(b"}")
        frame = (
            b'{"type":"resume","requestId":"1","id":"none","body":{"x":['
            + b"[]," * 33_000
            + b'[]],"y":"'
            + b"\\u00e9" * 1_000_000
            + b'"}}'
        )

        async def say() -> None:
            await client.send(fragment(frame, first=True, last=True))
            async with asyncio.timeout(20):
                assert b"no-active" in await client.reader.readuntil(b"}")

        assert await standstill(say) < LONGEST_SECONDS


async def test_a_client_that_waits_at_shutdown_is_refused(tmp_path: Path) -> None:
    """503, since no word was sent yet."""
    async with serving(tmp_path) as web:
        asked = asyncio.create_task(web.client.post("/api/object", json={"a": 1}))
        async with asyncio.timeout(20):
            while not web.streams:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await web.leave()
        answer = await asked
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
