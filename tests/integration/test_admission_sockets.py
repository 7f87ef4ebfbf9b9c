"""Who gets a chat socket, and what it may hold and send."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from websockets.asyncio.client import connect

from tests.integration.production import MIB, line, login, public
from tests.integration.raw import fragment, handshake, ping, raw
from tests.waiting import until

T = TypeVar("T")


async def test_a_socket_without_a_login_is_small_and_short(tmp_path: Path) -> None:
    """A partial message closes it, and so does silence (test_chat_socket.py)."""
    for seconds, sent in ((60.0, fragment(b"x" * 40, first=True)), (0.5, b"")):
        async with public(tmp_path, head_seconds=seconds) as web, raw(web.port) as client:
            await client.send(handshake("/api/chat/ws"))
            assert " 101 " in await client.head()
            await client.send(sent)
            assert await client.closed_within(20)


async def test_a_socket_with_a_login_takes_long_messages(tmp_path: Path) -> None:
    """By the handshake or a frame; it stays open, counts for its user, and releases its slots."""
    async with public(tmp_path, head_seconds=3.0, max_open_per_user=3) as web:
        url = f"ws://127.0.0.1:{web.port}/api/chat/ws"
        long = {"type": "resume", "requestId": "2", "id": "none", "body": {"x": "y" * 300_000}}
        async with connect(url) as framed, connect(url, additional_headers=login("ada")) as shaken:
            await framed.send(
                json.dumps(
                    {"type": "resume", "requestId": "1", "id": "none", "headers": login("ada")}
                )
            )
            assert json.loads(await framed.recv())["type"] == "no-active"
            await asyncio.sleep(3.2)
            for socket in (framed, shaken):
                await socket.send(json.dumps(long | {"headers": login("ada")}))
                assert json.loads(await socket.recv())["type"] == "no-active"
            async with connect(url, additional_headers=login("ada")):
                refused = await web.client.get("/api/me", headers=login("ada"))
                assert refused.json()["code"] == "too_many_open"
        await until(lambda: web.app.state.gate._users.taken("ada") == 0)
        assert web.app.state.gate.memory.held == 0


async def test_a_message_counts_while_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only while it waits: the next message does not make room for itself."""
    parsing, may_end = asyncio.Event(), asyncio.Event()

    async def slowly(_: int, work: Callable[[], T]) -> T:
        parsing.set()
        await may_end.wait()
        return work()

    monkeypatch.setattr("tokenwire.web.aisdk.socket.aside", slowly)
    frame = {"type": "resume", "requestId": "1", "id": "none"}
    long = json.dumps(frame | {"body": {"x": "y" * 300_000}})
    async with public(tmp_path) as web:
        url = f"ws://127.0.0.1:{web.port}/api/chat/ws"
        async with connect(url, additional_headers=login("ada")) as socket:
            await socket.send(long)
            await parsing.wait()
            await socket.send(json.dumps(frame | {"requestId": "2"}))
            await until(lambda: web.app.state.gate.memory.held > len(long))
            may_end.set()
            assert json.loads(await socket.recv())["type"] == "no-active"
        await until(lambda: web.app.state.gate.memory.held == 0)


async def test_unfinished_messages_share_memory(tmp_path: Path) -> None:
    """A logged-in user has a quarter in all sockets together."""
    async with (
        public(tmp_path, max_bodies_bytes=4 * MIB) as web,
        contextlib.AsyncExitStack() as stack,
    ):
        first, second = [await stack.enter_async_context(raw(web.port)) for _ in range(2)]
        for client in (first, second):
            await client.send(handshake("/api/chat/ws", line("ada")))
            assert " 101 " in await client.head()
        await first.send(fragment(b"x" * 700_000, first=True))
        await until(lambda: web.app.state.gate.memory.held >= 700_000)
        await second.send(fragment(b"x" * 700_000, first=True))
        assert await second.closed_within(10)
        assert web.app.state.gate.memory.held <= MIB


@pytest.mark.parametrize(
    "frame", [fragment(b"", first=False), ping()], ids=["empty-fragments", "pings"]
)
async def test_empty_frames_are_counted(tmp_path: Path, frame: bytes) -> None:
    """They cost as much as others, and no byte limit ends them."""
    async with public(tmp_path) as web, raw(web.port) as client:
        await client.send(handshake("/api/chat/ws", line("ada")))
        assert " 101 " in await client.head()
        await client.send(fragment(b"", first=True) + frame * 50)
        assert not await client.closed_within(0.3)
        await client.send(frame * 1100)
        assert await client.closed_within(10)


async def test_posts_on_a_socket_are_counted(tmp_path: Path) -> None:
    """As in every dialect."""
    async with (
        public(tmp_path, posts_per_minute_per_user=1) as web,
        connect(
            f"ws://127.0.0.1:{web.port}/api/chat/ws", additional_headers=login("ada")
        ) as socket,
    ):
        for number, expected in enumerate(["start", "error"]):
            message = {
                "id": f"m{number}",
                "role": "user",
                "parts": [{"type": "text", "text": "hi"}],
            }
            frame = {
                "type": "send",
                "requestId": str(number),
                "id": "c",
                "messages": [message],
                "headers": login("ada"),
            }
            await socket.send(json.dumps(frame))
            async with asyncio.timeout(20):
                while (heard := json.loads(await socket.recv()))["requestId"] != str(number):
                    pass
            assert heard["type"] == expected
        assert "minute" in heard["errorText"]


async def test_a_foreign_origin_gets_no_socket(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The session cookie alone does not open one for another site. It is no error of ours."""
    async with public(tmp_path) as web, raw(web.port) as client:
        caplog.set_level(logging.INFO, "uvicorn.error")
        token = login("ada")["Authorization"].removeprefix("Bearer ")
        await client.send(
            handshake("/api/chat/ws", f"Cookie: session={token}", "Origin: https://evil.example")
        )
        assert " 403 " in await client.head()
        assert await client.closed_within(20)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []
