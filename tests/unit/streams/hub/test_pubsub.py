"""streams.hub.pubsub against a scripted server: which channels count as subscribed, and when a
connection is dead.
"""

import asyncio
from collections.abc import AsyncIterator

import hiredis
import pytest

from tests.listening import Listener
from tests.waiting import until
from tokenwire.streams.hub import pubsub as module
from tokenwire.streams.hub.pubsub import MAX_CHANNELS_PER_COMMAND, RedisPubSub
from tokenwire.streams.log.ports import LogUnavailable


class Server:
    """Answers commands at once, unless told to hold them (`answering`)."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.answering = True
        self.connections: list[asyncio.StreamWriter] = []
        self.on_auth = b"+OK\r\n"

    async def start(self) -> str:
        self._listener = Listener(self._serve)
        return f"redis://127.0.0.1:{self._listener.port}"

    async def stop(self) -> None:
        await self._listener.aclose()

    def drop(self) -> None:
        """Close every connection."""
        for writer in self.connections:
            writer.transport.abort()
        self.connections.clear()

    def say(self, data: bytes) -> None:
        self.connections[-1].write(data)

    def publish(self, channel: str, payload: str) -> None:
        self.say(_reply("message", channel, payload))

    def confirm(self, *channels: str) -> None:
        for channel in channels:
            self.say(_reply("subscribe", channel, 1))

    def named(self, name: str) -> list[list[str]]:
        return [command[1:] for command in self.commands if command[0] == name]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader(encoding="utf-8")
        self.connections.append(writer)
        while data := await reader.read(1 << 16):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                self.commands.append(command)
                if self.answering:
                    self._answer(command)

    def _answer(self, command: list[str]) -> None:
        if command[0] == "SUBSCRIBE":
            self.confirm(*command[1:])
        elif command[0] == "PING":
            self.say(_reply("pong", ""))
        elif command[0] == "AUTH":
            self.say(self.on_auth)


def _reply(*words: str | int) -> bytes:
    parts = [f"*{len(words)}\r\n"]
    parts += [
        f":{word}\r\n" if isinstance(word, int) else f"${len(word)}\r\n{word}\r\n" for word in words
    ]
    return "".join(parts).encode()


class Rig:
    """A pub/sub on such a server, and what it has delivered."""

    def __init__(self) -> None:
        self.server = Server()
        self.messages: list[tuple[bytes, bytes]] = []
        self.again: list[bytes] = []

    async def start(self, *, password: str = "") -> "Rig":
        url = await self.server.start()
        self.pubsub = RedisPubSub(url.replace("//", f"//:{password}@") if password else url)
        await self.pubsub.start(self.messages.extend, self.again.append)
        return self

    async def unanswered(self, channel: str) -> "asyncio.Task[None]":
        """A subscription that the server has heard of and does not confirm."""
        self.server.answering = False
        earlier = len(self.server.named("SUBSCRIBE"))
        task = asyncio.create_task(self.pubsub.subscribe(channel))
        await until(lambda: len(self.server.named("SUBSCRIBE")) > earlier)
        return task

    async def aclose(self) -> None:
        await self.pubsub.aclose()
        await self.server.stop()


@pytest.fixture
async def rig(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(module, "LONGEST_PAUSE_SECONDS", 0.02)
    made = await Rig().start()
    await until(lambda: made.pubsub.connected)
    yield made
    await made.aclose()


async def test_a_subscriber_waits_for_the_confirmation(rig: Rig) -> None:
    """Others that want the same channel meanwhile share it."""
    first, second = await rig.unanswered("a"), await rig.unanswered("a")
    assert not first.done()
    rig.server.confirm("a", "a")
    async with asyncio.timeout(10):
        await asyncio.gather(first, second)
    rig.server.publish("a", "hello")
    await until(lambda: rig.messages == [(b"a", b"hello")])
    assert rig.again == []


async def test_an_older_confirmation_does_not_count_for_a_newer(rig: Rig) -> None:
    """Subscribed, left and subscribed again: the first confirmation says nothing about the second
    subscription.
    """
    gone = await rig.unanswered("a")
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    await until(lambda: rig.server.named("UNSUBSCRIBE") == [["a"]])
    back = await rig.unanswered("a")
    rig.server.confirm("a", "x")
    rig.server.publish("b", "the confirmation before it was read")
    await until(lambda: bool(rig.messages))
    assert not back.done()
    rig.server.confirm("a")
    await back


async def test_one_of_two_that_gives_up_takes_nothing_from_the_other(rig: Rig) -> None:
    """The channel stays subscribed while anybody waits for it."""
    first, second = await rig.unanswered("a"), await rig.unanswered("a")
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    rig.server.confirm("a", "a")
    async with asyncio.timeout(10):
        await second
    assert rig.server.named("UNSUBSCRIBE") == []


async def test_a_missing_confirmation_is_an_outage(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It raises after a time, and the channel is dropped."""
    monkeypatch.setattr(module, "CONFIRM_SECONDS", 0.05)
    rig.server.answering = False
    async with asyncio.timeout(10):
        with pytest.raises(LogUnavailable):
            await rig.pubsub.subscribe("a")
    await until(lambda: rig.server.named("UNSUBSCRIBE") == [["a"]])


async def test_a_new_connection_subscribes_to_everything_again(rig: Rig) -> None:
    """In commands of bounded length; each channel is reported, since messages may be lost."""
    channels = [f"c{number:04}" for number in range(MAX_CHANNELS_PER_COMMAND + 100)]
    await asyncio.gather(*(rig.pubsub.subscribe(channel) for channel in channels))
    assert rig.again == []
    rig.server.commands.clear()
    rig.server.drop()
    await until(lambda: len(rig.again) == len(channels))
    assert [len(command) for command in rig.server.named("SUBSCRIBE")] == [
        MAX_CHANNELS_PER_COMMAND,
        100,
    ]
    assert sorted(name.decode() for name in rig.again) == channels


async def test_a_lost_confirmation_is_not_waited_for(rig: Rig) -> None:
    """The first confirmation of the new connection counts for a subscription whose own was lost."""
    waiting = await rig.unanswered("a")
    rig.server.answering = True
    rig.server.drop()
    async with asyncio.timeout(20):
        await waiting


async def test_a_silent_server_is_disconnected(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is pinged now and then; one that answers stays."""
    monkeypatch.setattr(module, "PING_SECONDS", 0.05)
    rig.server.drop()
    await until(lambda: len(rig.server.named("PING")) >= 5)
    rig.server.answering = False
    silent = len(rig.server.connections)
    await until(lambda: len(rig.server.connections) > silent)


async def test_a_refused_password_is_no_connection(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and retried."""
    rig = Rig()
    rig.server.on_auth = b"-WRONGPASS no\r\n"
    await rig.start(password="wrong")
    try:
        await until(lambda: len(rig.server.named("AUTH")) >= 2)
        assert "WRONGPASS" in caplog.text
    finally:
        await rig.aclose()


async def test_a_stop_at_the_moment_of_a_loss_ends(rig: Rig) -> None:
    """A process that stops at the same time as Redis would otherwise wait for it for ever."""
    assert rig.pubsub._connection is not None
    rig.pubsub._connection.connection_lost(None)
    async with asyncio.timeout(20):
        await rig.pubsub.aclose()


async def held_for(seconds: float) -> None:
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    await until(lambda: clock() > end)


async def test_a_connection_that_held_resets_the_pause(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """The next loss is logged, and retried at once: after months a process reconnects as fast as
    ever.
    """
    for losses in range(1, 4):
        await held_for(0.05)
        connections = len(rig.server.connections)
        rig.server.drop()
        await until(lambda: rig.server.connections)
        assert connections == 1
        assert caplog.text.count("pub/sub connection lost") == losses
