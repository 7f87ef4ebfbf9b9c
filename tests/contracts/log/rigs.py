"""The kinds of log that must behave alike, the faults around each of them, and helpers for
tests.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cache
from typing import Any, Protocol

import pytest
import redis

from tests.valkey import Valkey
from tokenwire.protocol.events import AnyEvent, Chunk, Complete
from tokenwire.streams.hub.pubsub import RedisPubSub
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.streams.log.ports import Limits, Log, Page, PubSub, Refused
from tokenwire.streams.log.redis import RedisLog
from tokenwire.streams.log.wire import Argument, Script

KINDS = ("memory", "fakeredis", "valkey")
RESTARTABLE = ("memory", "valkey")
"""fakeredis has no run id: a restart that keeps its data cannot be noticed."""
NEW_EPOCHS = [*((kind, "lose") for kind in KINDS), *((kind, "restart") for kind in RESTARTABLE)]
LEASE = 30.0
SHORT_LEASE = 0.3


class Rig(Protocol):
    """A kind of log, and the faults around it."""

    def log(self, limits: Limits | None = None) -> Log: ...
    async def wait(self, seconds: float) -> None: ...
    async def set_clock_back(self, seconds: float) -> None: ...
    async def restart(self) -> None: ...
    async def lose(self) -> None: ...
    async def published(
        self, channel: str, act: Callable[[], Awaitable[object]]
    ) -> list[bytes]: ...
    def pubsub(self) -> PubSub: ...
    async def aclose(self) -> None: ...


class MemoryRig:
    def __init__(self) -> None:
        self.now = 1000.0
        self.only: MemoryLog | None = None

    def log(self, limits: Limits | None = None) -> Log:
        self.only = MemoryLog(limits, lambda: self.now)
        return self.only

    async def wait(self, seconds: float) -> None:
        self.now += seconds

    async def set_clock_back(self, seconds: float) -> None:
        self.now -= seconds

    async def restart(self) -> None:
        assert self.only is not None
        self.only.restart()

    async def lose(self) -> None:
        assert self.only is not None
        self.only.restart(lose_data=True)

    async def published(self, channel: str, act: Callable[[], Awaitable[object]]) -> list[bytes]:
        assert self.only is not None
        heard: list[bytes] = []
        stop = self.only.listen(
            lambda where, payload: heard.append(payload) if where == channel else None
        )
        with suppress(Refused):
            await act()
        stop()
        return heard

    def pubsub(self) -> PubSub:
        assert self.only is not None
        return MemoryPubSub(self.only)

    async def aclose(self) -> None:
        pass


_TIME_OF_THE_RIG = """
local server = redis
local function ask(how)
  return function(command, ...)
    if command == 'TIME' then
      local ms = tonumber(server.call('GET', 'rig:ms'))
      return {string.format('%.0f', math.floor(ms / 1000)), string.format('%.0f', ms % 1000 * 1000)}
    end
    return how(command, ...)
  end
end
local redis = setmetatable(
  {call = ask(server.call), pcall = ask(server.pcall)}, {__index = server})
"""


@cache
def _with_time_of_the_rig(script: Script) -> Script:
    return Script(_TIME_OF_THE_RIG + script.text.decode())


class _Log(RedisLog):
    async def _run(self, script: Script, conversation_id: str, *arguments: Argument) -> list[Any]:
        return await super()._run(_with_time_of_the_rig(script), conversation_id, *arguments)


class RedisRig:
    """Its time stands still but for `wait`, however slow the machine is."""

    def __init__(self, port: int, server: Valkey | None) -> None:
        self.port = port
        self.server = server
        self.logs: list[RedisLog] = []
        self.ms = int(time.time() * 1000)
        with self.client() as client:
            client.flushall()
            client.set("rig:ms", self.ms)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, protocol=2, driver_info=None)

    def pubsub(self) -> PubSub:
        return RedisPubSub(f"redis://127.0.0.1:{self.port}/0")

    def log(self, limits: Limits | None = None) -> Log:
        self.logs.append(_Log(f"redis://127.0.0.1:{self.port}/0", limits))
        return self.logs[-1]

    async def wait(self, seconds: float) -> None:
        """What expires does so earlier instead: it does by the server's own clock."""
        ms = round(seconds * 1000)
        with self.client() as client:
            self._set_clock(client, self.ms + ms)
            for key in client.keys("tw2:*"):
                if (left := client.pttl(key)) >= 0:
                    client.pexpire(key, left - ms)
            for revoked in client.keys("*:revoked"):
                for user, until in client.hgetall(revoked).items():
                    client.hset(revoked, user, int(until) - ms)

    async def set_clock_back(self, seconds: float) -> None:
        with self.client() as client:
            self._set_clock(client, self.ms - round(seconds * 1000))

    def _set_clock(self, client: redis.Redis, ms: int) -> None:
        self.ms = ms
        client.set("rig:ms", ms)

    async def restart(self) -> None:
        assert self.server is not None
        self.server.restart()
        await asyncio.sleep(0.05)  # until the client has seen its connection end

    async def lose(self) -> None:
        with self.client() as client:
            client.flushall()
            self._set_clock(client, self.ms)

    async def published(self, channel: str, act: Callable[[], Awaitable[object]]) -> list[bytes]:
        with self.client() as client, client.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe(channel, "end")
            await asyncio.to_thread(pubsub.get_message, timeout=5)
            await asyncio.to_thread(pubsub.get_message, timeout=5)
            with suppress(Refused):
                await act()
            await asyncio.to_thread(client.publish, "end", "")
            return await asyncio.to_thread(_until_end, pubsub)

    async def aclose(self) -> None:
        for log in self.logs:
            await log.aclose()


def _until_end(pubsub: "redis.client.PubSub") -> list[bytes]:
    heard: list[bytes] = []
    while True:
        message = pubsub.get_message(timeout=5)
        if message is None or message["channel"] == b"end":
            return heard
        heard.append(message["data"])


def chunk(offset: int, content: str = "x", message_id: str = "m", attempt: int = 1) -> AnyEvent:
    return Chunk(message_id, attempt, offset, content, 0)


def complete(length: int = 0, message_id: str = "m", attempt: int = 1) -> AnyEvent:
    return Complete(message_id, attempt, "stop", None, length, 0, [], 0, 0)


def numbers(page: Page) -> list[int]:
    return [entry.seq for entry in page.entries]


async def answered(
    log: Log, count: int, message_id: str = "m", conversation_id: str = "c"
) -> list[bytes]:
    """An answer of that many chunks has ended; gives the whole log, unpacked as far as this answer
    goes.
    """
    claim = await log.claim(conversation_id, message_id, 0, LEASE)
    for index, start in enumerate(range(0, count, 100)):
        events = [
            chunk(offset, "Hé😀", message_id) for offset in range(start, min(start + 100, count))
        ]
        await log.append(claim, index, 0, events)
    await log.append(claim, -(-count // 100), 0, [complete(count, message_id)])
    return await whole_log(log, conversation_id)


async def whole_log(log: Log, conversation_id: str = "c") -> list[bytes]:
    """All events of the log as readers get them, in pages that do not fit blocks."""
    found: list[bytes] = []
    page = await log.read(conversation_id, None, 0, 0)
    after = page.oldest - 1
    while after < page.top:
        entries = (await log.read(conversation_id, page.epoch, after, 100)).entries
        assert [entry.seq for entry in entries] == list(range(after + 1, after + 1 + len(entries)))
        assert entries
        found += [entry.data for entry in entries]
        after = entries[-1].seq
    return found


def redis_only(rig: Rig) -> RedisRig:
    if not isinstance(rig, RedisRig):
        pytest.skip("what only a server keeps")
    return rig


REDIS = ("fakeredis", "valkey")
