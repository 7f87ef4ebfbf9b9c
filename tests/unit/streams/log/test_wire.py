"""streams.log.wire against a scripted server: unknown scripts, cancelled calls, closed
connections.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.unit.streams.hub.test_pubsub import Server
from tests.waiting import PATIENCE_SECONDS, until
from tokenwire.streams.log.ports import LogUnavailable
from tokenwire.streams.log.wire import Script, Wire

ONE, OTHER = Script("return ARGV[1]"), Script("return ARGV[#ARGV]")


class ScriptServer(Server):
    """Replies with the last argument of each command. A script must have come in full once; `flush`
    forgets them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: set[str] = set()
        self.refusal = b""

    def flush(self) -> None:
        self.known.clear()

    async def hang_up(self) -> None:
        """Properly, as after a time of silence."""
        writer = self.connections.pop()
        writer.close()
        await writer.wait_closed()

    def _answer(self, command: list[str]) -> None:
        name, *words = command
        if name == "PING":
            self.say(b"+PONG\r\n")
        elif self.refusal:
            self.say(self.refusal)
        elif name == "EVALSHA" and words[0] not in self.known:
            self.say(b"-NOSCRIPT No matching script.\r\n")
        else:
            if name == "EVAL":
                self.known.add(hashlib.sha1(words[0].encode(), usedforsecurity=False).hexdigest())
            self.echo(words[-1])

    def echo(self, word: str) -> None:
        self.say(f"${len(word)}\r\n{word}\r\n".encode())

    @property
    def ways(self) -> list[str]:
        """How scripts were sent."""
        return [command[0] for command in self.commands if command[0] in {"EVAL", "EVALSHA"}]


class Rig:
    """A wire to such a server."""

    async def start(self) -> "Rig":
        self.server = ScriptServer()
        self.wire = Wire(await self.server.start())
        return self

    async def run(self, word: str, script: Script = ONE) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.wire.run(script, [*"12345", word])

    async def execute(self, *command: str) -> Any:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.wire.execute(*command)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = await Rig().start()
    yield made
    await made.wire.aclose()
    await made.server.stop()


async def test_a_script_is_sent_in_full_once(rig: Rig) -> None:
    """Later calls use its hash."""
    assert [await rig.run(word) for word in "abc"] == [b"a", b"b", b"c"]
    assert rig.server.ways == ["EVAL", "EVALSHA", "EVALSHA"]


async def test_flushed_scripts_are_sent_again(rig: Rig) -> None:
    """In full, each once. The callers get only their own replies; so do others of the same
    pipeline.
    """
    await asyncio.gather(rig.run("a"), rig.run("a", OTHER))
    rig.server.flush()
    rig.server.commands.clear()
    calls = asyncio.gather(
        rig.run("b"),
        rig.execute("ECHO", "plain"),
        rig.run("c", OTHER),
        rig.run("d"),
        rig.execute("ECHO", "last"),
    )
    assert await calls == [b"b", b"plain", b"c", b"d", b"last"]
    assert sorted(rig.server.ways) == ["EVAL"] * 2 + ["EVALSHA"] * 4


async def test_a_new_connection_sends_scripts_in_full(rig: Rig) -> None:
    """It may be another server; no round trip is spent on a check."""
    await rig.run("a")
    rig.server.refusal = b"-READONLY You can't write against a read only replica.\r\n"
    with pytest.raises(LogUnavailable, match="READONLY"):
        await rig.run("b")
    rig.server.refusal = b""
    rig.server.flush()
    rig.server.commands.clear()
    assert await rig.run("c") == b"c"
    assert rig.server.ways == ["EVAL"]


async def test_a_server_that_cannot_serve_is_disconnected(rig: Rig) -> None:
    """After a failover the address may be another server. An error of the caller does not close the
    connection.
    """
    await rig.execute("ECHO", "a")
    rig.server.refusal = b"-ERR unknown command\r\n"
    with pytest.raises(ResponseError, match="unknown command"):
        await rig.execute("NONSENSE")
    assert len(rig.server.connections) == 1
    rig.server.refusal = b"-READONLY You can't write against a read only replica.\r\n"
    with pytest.raises(LogUnavailable, match="READONLY"):
        await rig.execute("SET", "a", "b")
    rig.server.refusal = b""
    assert await rig.execute("ECHO", "b") == b"b"
    assert len(rig.server.connections) == 2


async def test_a_cancelled_call_is_not_sent(rig: Rig) -> None:
    """Its caller was cancelled while another pipeline was on its way."""
    await rig.execute("ECHO", "first")
    rig.server.answering = False
    out = asyncio.create_task(rig.execute("ECHO", "out"))
    await until(lambda: len(rig.server.named("ECHO")) == 2)
    cancelled, following = (
        asyncio.create_task(rig.execute("ECHO", word)) for word in ("cancelled", "next")
    )
    await asyncio.sleep(0)
    cancelled.cancel()
    rig.server.answering = True
    rig.server.echo("out")
    assert (await out, await following) == (b"out", b"next")
    assert rig.server.named("ECHO") == [["first"], ["out"], ["next"]]


async def test_an_idle_connection_that_was_closed_is_no_outage(rig: Rig) -> None:
    """The server closed it while nothing happened: the next call opens a new one."""
    await rig.execute("ECHO", "a")
    await rig.server.hang_up()
    while not await rig.wire._connection.can_read():
        await asyncio.sleep(0)
    assert await rig.execute("ECHO", "b") == b"b"
