"""tests.listening: a server leaves nothing behind when its context ends, whatever connects then."""

import asyncio
import gc
import socket
import ssl
import sys

import pytest

from tests.listening import closing, listening

ROUNDS = 60


@pytest.fixture
def leftovers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the garbage collector finds open; warnings are errors."""
    found: list[str] = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda found_open: found.append(repr(found_open.exc_value))
    )
    return found


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A line for a line, more than a socket's buffer on request, until the client leaves."""
    while line := await reader.readline():
        writer.write(line if line != b"much\n" else bytes(1 << 22))
        await writer.drain()


def calling(port: int, *said: bytes) -> socket.socket:
    """Connects and waits for nothing."""
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", port))
    for words in said:
        client.send(words)
    return client


@pytest.mark.sampled(9)
@pytest.mark.parametrize(
    "said", [(), (b"hello\n",), (b"much\n",)], ids=["silent", "talking", "not reading"]
)
@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("steps", range(7))
async def test_a_connection_at_the_very_end_leaves_nothing(
    leftovers: list[str], said: tuple[bytes, ...], encrypted: bool, steps: int
) -> None:
    """Accepted or not, during a handshake or served: the context ends after that many steps of the
    loop.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if encrypted else None
    before, complaints = asyncio.all_tasks(), list[str]()
    asyncio.get_running_loop().set_exception_handler(
        lambda _loop, context: complaints.append(str(context))
    )
    for _ in range(ROUNDS):
        async with listening(answer, tls=tls) as server:
            clients = [calling(server.port, *said) for _ in range(3)]
            for _ in range(steps):
                await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
        for client in clients:
            client.close()
    gc.collect()
    assert (leftovers, complaints) == ([], [])


async def test_a_connection_is_closed_when_its_handler_ends() -> None:
    """All that was written arrives; the port is free again after the context."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 100_000)

    async with listening(greet) as server:
        port = server.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with closing(writer):
            assert len(await reader.read(-1)) == 100_000
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    async with listening(greet, port) as again:
        assert again.port == port


async def test_a_handler_that_fails_fails_its_test() -> None:
    """A client that leaves is no failure."""

    async def fail(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(2) == b"ok"

    async def call() -> None:
        async with listening(fail) as server:
            for said in (b"o", b"no"):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                async with closing(writer):
                    writer.write(said)
                    writer.write_eof()
                    await reader.read(-1)

    with pytest.raises(AssertionError):
        await call()
