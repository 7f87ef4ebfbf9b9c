"""Nothing of a large body is kept once it was parsed, however long its answer takes: neither its
bytes nor its values.
"""

import asyncio
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.raw import Raw, fragment, handshake, raw, request
from tests.integration.serving import serving
from tests.waiting import until

MARK = "a text that nobody asked for "
JUNK = {"foo": MARK * 5_000, "bar": [[] for _ in range(20_000)]}

UI = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
KINDS = {
    "responses": (
        "/v1/responses",
        {
            "model": "demo",
            "input": [{"type": "reasoning", **JUNK}, {"role": "user", "content": "hi"}],
        },
    ),
    "chat completions": (
        "/v1/chat/completions",
        {"model": "demo", "messages": [{"role": "user", "content": "hi", **JUNK}]},
    ),
    "AI SDK": ("/api/chat", {"id": "c", "messages": [{**UI, "id": "old", **JUNK}, UI], **JUNK}),
}
WAYS = [
    (kind, stream) for kind in ("responses", "chat completions") for stream in (True, False)
] + [("AI SDK", True)]


@pytest.fixture(autouse=True)
def only_what_is_new() -> Iterator[None]:
    """Leftovers of other tests are skipped."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def large(value: object) -> bool:
    """A text of the test, in any encoding, or a list of it."""
    if isinstance(value, bytes | bytearray | memoryview):
        return len(value) > 50_000 and MARK.encode() in bytes(value)
    return (isinstance(value, str) and len(value) > 50_000 and MARK in value) or (
        isinstance(value, list) and len(value) == 20_000
    )


def alive() -> list[str]:
    """Objects that refer to a part of a body."""
    gc.collect()
    ours = {id(JUNK), id(JUNK["foo"]), id(JUNK["bar"])}
    return [
        f"{type(holder)} "
        f"{list(holder)[:5] if isinstance(holder, dict) else getattr(holder, '__qualname__', '')}"
        for holder in gc.get_objects()
        if id(holder) not in ours
        and any(large(value) and id(value) not in ours for value in gc.get_referents(holder))
    ]


async def say(client: Raw, path: str, body: dict[str, object]) -> None:
    await client.send(request("POST", path, body=json.dumps(body).encode()))


async def frame(client: Raw) -> None:
    said = {
        "type": "send",
        "requestId": "1",
        "id": "c",
        "body": JUNK,
        "messages": [{**UI, "id": "old", **JUNK}, UI],
    }
    await client.send(fragment(json.dumps(said).encode(), first=True, last=True))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("kind", "stream"), WAYS)
async def test_nothing_of_a_body_is_kept(tmp_path: Path, kind: str, stream: bool) -> None:
    """While the answer is streamed or waited for."""
    path, body = KINDS[kind]
    async with serving(tmp_path) as web, raw(web.port) as client:
        await say(client, path, body | {"stream": stream})
        await until(lambda: web.app.state.services.places.taken == 1)
        await asyncio.sleep(0.1)
        assert alive() == []


async def test_nothing_of_a_frame_is_kept(tmp_path: Path) -> None:
    """On the chat's socket."""
    async with serving(tmp_path) as web, raw(web.port) as client:
        await client.send(handshake("/api/chat/ws"))
        assert " 101 " in await client.head()
        await frame(client)
        await until(lambda: web.app.state.services.places.taken == 1)
        await asyncio.sleep(0.1)
        assert alive() == []


def test_a_kept_body_is_found() -> None:
    """Otherwise the tests above could not fail."""
    for kept in ([json.dumps(JUNK).encode()], {"foo": MARK * 4_000}, [[[] for _ in range(20_000)]]):
        assert alive(), kept
