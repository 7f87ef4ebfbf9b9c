"""Clients that never read, on real sockets of both servers: they are cut after a while, and their
slots are free.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import pytest

from tests.integration.broadcasting import Writer, memory_stage, token
from tests.integration.raw import fragment, handshake, request
from tests.integration.serving import Web, serving
from tests.integration.test_chat_streams import Worker, working

SECONDS = 0.5
KERNEL_BYTES = 8 * 1024


def small_buffers(listening: Iterable[socket.socket]) -> None:
    """Accepted sockets inherit this; otherwise the kernel takes megabytes before a client counts as
    stalled.
    """
    for one in listening:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)


@contextlib.asynccontextmanager
async def deaf(port: int, *data: bytes) -> AsyncIterator[socket.socket]:
    """A client that sends this and reads nothing unless the test does; it may have to wait for the
    handshake.
    """
    loop = asyncio.get_running_loop()
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        raw.setblocking(False)
        await loop.sock_connect(raw, ("127.0.0.1", port))
        for number, piece in enumerate(data, 1):
            await loop.sock_sendall(raw, piece)
            head = b""
            while number < len(data) and not head.endswith(b"\r\n\r\n"):
                head += await loop.sock_recv(raw, 1)
        yield raw


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def speak(worker: Worker, done: Callable[[], bool]) -> None:
    """Write more than any buffer takes."""
    async with asyncio.timeout(20):
        while not done():
            await worker.say("x" * 2000)
            await asyncio.sleep(0.002)


def resume_frame(chat: str) -> bytes:
    return fragment(
        json.dumps({"type": "resume", "requestId": "1", "id": chat}).encode(), first=True, last=True
    )


OPENED: dict[str, Callable[[str, str], tuple[bytes, ...]]] = {
    "server-sent events": lambda chat, _row: (request("GET", f"/api/conversations/{chat}/events"),),
    "OpenAI's API": lambda _chat, row: (request("GET", f"/v1/responses/resp_{row}?stream=true"),),
    "AI SDK": lambda chat, _row: (request("GET", f"/api/chat/{chat}/stream"),),
    "AI SDK's socket": lambda chat, _row: (handshake("/api/chat/ws"), resume_frame(chat)),
}


async def answering(web: Web) -> tuple[str, Worker]:
    """A conversation whose answer has begun."""
    chat = await web.conversation()
    await web.client.post(f"/api/conversations/{chat}/messages", json={"content": "hi"})
    return chat, await working(web, chat)


@pytest.mark.parametrize("kind", OPENED)
async def test_web_cuts_readers_that_read_nothing(tmp_path: Path, kind: str) -> None:
    """Streams of every dialect; others can take the slots of the stream and of its user."""
    async with serving(tmp_path, stalled_seconds=SECONDS) as web:
        small_buffers(web.listening)
        chat, worker = await answering(web)
        async with deaf(web.port, *OPENED[kind](chat, worker.row.id)):
            await eventually(lambda: web.streams == 1)
            await speak(worker, lambda: web.streams == 0)
            await eventually(lambda: web.app.state.gate._users.taken("local") == 0)
            assert web.unsent() == [0]  # of the test's own client


async def test_web_cuts_clients_that_do_not_read_an_answer(tmp_path: Path) -> None:
    """Even a complete one: it holds memory."""
    async with serving(tmp_path, stalled_seconds=SECONDS) as web:
        small_buffers(web.listening)
        chat = await web.conversation()
        await web.client.post(
            f"/api/conversations/{chat}/messages", json={"content": "x" * 200_000}
        )
        async with deaf(web.port, request("GET", f"/api/conversations/{chat}")):
            await eventually(lambda: max(web.unsent()) > 0)
            await eventually(lambda: max(web.unsent()) == 0)


async def received(client: socket.socket, count: int) -> bytes:
    """Up to so many bytes; none at the end of the connection."""
    async with asyncio.timeout(20):
        return await asyncio.get_running_loop().sock_recv(client, count)


async def test_web_keeps_slow_readers(tmp_path: Path) -> None:
    """A few kilobytes now and then are enough, however much is waiting."""
    # Longer than a busy machine stands still, shorter than this client reads.
    async with serving(tmp_path, stalled_seconds=3.0) as web:
        small_buffers(web.listening)
        chat, worker = await answering(web)
        async with deaf(web.port, *OPENED["server-sent events"](chat, worker.row.id)) as slow:
            opening = b""
            while b": live " not in opening:  # events from now on
                opening += await received(slow, 4096)
            for _ in range(200):
                await worker.say("x" * 2000)
            read = 0
            for _ in range(40):
                piece = await received(slow, 4096)
                assert piece
                read += len(piece)
                await asyncio.sleep(SECONDS / 5)
            assert read > 40 * 1000  # events, not heartbeats
            assert web.streams == 1


async def test_the_broadcaster_cuts_readers_that_read_nothing() -> None:
    """Like web; slow readers miss nothing (test_broadcaster_slow.py)."""
    async with memory_stage(stalled_seconds=SECONDS) as stage:
        assert stage.server._listener is not None
        small_buffers(stage.server._listener.sockets)
        writer = await Writer(stage.log, "c").begin()
        subscribe = json.dumps({"type": "subscribe", "token": token("c")}).encode()
        async with deaf(
            stage.port, handshake("/conversations/c"), fragment(subscribe, first=True, last=True)
        ):
            await eventually(
                lambda: (
                    len(stage.readers.all) == 1
                    and next(iter(stage.readers.all)).session.phase.name == "LIVE"
                )
            )
            async with asyncio.timeout(20):
                while stage.readers.all:
                    await writer.say("x" * 2000)
                    await asyncio.sleep(0.002)
            assert stage.readers.users.taken("u") == 0


async def test_the_broadcaster_forgets_that_a_reader_was_behind() -> None:
    """A reader that has caught up is not watched any more: in a silent conversation it would look
    stalled.
    """
    async with memory_stage(stalled_seconds=600) as stage:
        assert stage.server._listener is not None
        small_buffers(stage.server._listener.sockets)
        writer = await Writer(stage.log, "c").begin()
        subscribe = json.dumps({"type": "subscribe", "token": token("c")}).encode()
        async with deaf(
            stage.port, handshake("/conversations/c"), fragment(subscribe, first=True, last=True)
        ) as slow:
            await eventually(
                lambda: (
                    len(stage.readers.all) == 1
                    and next(iter(stage.readers.all)).session.phase.name == "LIVE"
                )
            )
            [connection] = stage.server._connections
            async with asyncio.timeout(20):
                while connection._stalled._timer is None:
                    await writer.say("x" * 2000)
                    await asyncio.sleep(0.002)
                while connection._stalled._timer is not None:
                    await asyncio.get_running_loop().sock_recv(slow, 1 << 16)
                    await asyncio.sleep(0)
