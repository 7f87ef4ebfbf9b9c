"""Redis of a simulation: the log's rules are those of `streams.log.memory.MemoryLog`, as in the Lua
scripts.

`Log` is a process's part: `streams.log.redis.RedisLog`, with its real repetition of appends, over
the simulated network. `PubSub` is the pub/sub side: late, doubled, out of order, lost, or cut.
"""

import asyncio
import copy
import random
from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec

from tests.simulation.loop import Node, VirtualLoop
from tests.simulation.net import Net, NoAnswer, Service, at_once
from tokenwire.protocol.events import AnyEvent
from tokenwire.streams.log import ports
from tokenwire.streams.log import redis as real
from tokenwire.streams.log.memory import MemoryLog

_events = msgspec.json.Decoder(AnyEvent)
Memory = dict[str, Any]


class Server(MemoryLog):
    """What all processes share. `claims` records every assigned attempt: (message id, attempt) ->
    epoch.
    """

    def __init__(self, clock: Callable[[], float], limits: ports.Limits) -> None:
        super().__init__(limits, clock)
        self.claims: dict[tuple[str, int], str] = {}
        self.lives = 0
        """How often it may have forgotten which answers are sealed."""
        self.journal: deque[tuple[str, Any, Any]] | None = None
        """If kept: the state before each write: (conversation id, state, tombstone)."""
        self.writer: ports.Claim | None = None
        """Whose append is being carried out."""

    def restart(self, *, lose_data: bool = False) -> None:
        """Restart the server. `lives` counts how often its data was lost."""
        super().restart(lose_data=lose_data)
        self.lives += lose_data

    def state(self, channel: str) -> Any:
        """What it holds of the log with this channel."""
        return self._states[channel.partition("{")[2].rstrip("}")]

    def save(self) -> Memory:
        """What a replica or a file on disk holds now."""
        return copy.deepcopy(
            {"states": self._states, "tombstones": self._tombstones, "time": self._time}
        )

    def fail_over(self, saved: Memory) -> None:
        """Be another server, which knows what `save` gave and nothing later."""
        self._run += 1
        self.lives += 1
        self._states, self._tombstones, self._time = (
            saved["states"],
            saved["tombstones"],
            saved["time"],
        )

    def lose_the_end(self, count: int) -> None:
        """Be another server, which knows all but the last `count` writes."""
        self._run += 1
        self.lives += 1
        for _ in range(min(count, len(self.journal or ()))):
            conversation_id, state, tombstone = self.journal.pop()  # type: ignore[union-attr]
            for known, before in ((self._states, state), (self._tombstones, tombstone)):
                known.pop(conversation_id, None)
                if before is not None:
                    known[conversation_id] = before

    def _settle(self, conversation_id: str) -> Any:
        self.note(conversation_id)
        return super()._settle(conversation_id)

    def note(self, conversation_id: str) -> None:
        """A write begins."""
        if self.journal is not None:
            before = (
                copy.deepcopy(self._states.get(conversation_id)),
                self._tombstones.get(conversation_id),
            )
            self.journal.append((conversation_id, *before))

    async def delete(self, conversation_id: str) -> None:
        """Delete the log of a conversation."""
        self.note(conversation_id)
        await super().delete(conversation_id)

    async def read(
        self,
        conversation_id: str,
        epoch: str | None,
        after: int,
        limit: int,
        max_bytes: int = ports.PAGE_BYTES,
    ) -> ports.Page:
        """Read a page. It writes at most an epoch, which does not count as a write."""
        page = await super().read(conversation_id, epoch, after, limit, max_bytes)
        if (
            self.journal
            and self.journal[-1][0] == conversation_id
            and self.journal[-1][1] is not None
        ):
            self.journal.pop()
        return page

    async def claim(
        self,
        conversation_id: str,
        message_id: str,
        sql_attempt: int,
        lease_seconds: float,
        disobeyed: bool = False,
    ) -> ports.Claim:
        """Claim the answer."""
        claim = await super().claim(
            conversation_id, message_id, sql_attempt, lease_seconds, disobeyed
        )
        self.claims[message_id, claim.attempt] = claim.epoch
        return claim

    async def append(
        self, claim: ports.Claim, index: int, covered: int, events: Sequence[AnyEvent]
    ) -> ports.Appended:
        """Append a batch of events."""
        self.writer = claim
        try:
            return await super().append(claim, index, covered, events)
        finally:
            self.writer = None


class Log(real.RedisLog):
    """`streams.log.redis.RedisLog` of one process."""

    def __init__(self, net: Net, node: Node, service: Service, server: Server) -> None:
        self._net, self._node, self._service, self._server = net, node, service, server
        self._wire: Any = SimpleNamespace(closed=False)

    async def _run(self, script: Any, conversation_id: str, *arguments: Any) -> Any:
        """Only `append` comes here; everything else is asked of the server as it is."""
        if script is not real._APPEND:
            raise TypeError("not an append")
        message_id, epoch, attempt, index, covered, _terminal, *batch = arguments
        claim = ports.Claim(conversation_id, message_id, epoch, attempt)
        events = [_events.decode(item) for item in batch]
        done: ports.Appended = await self._ask("append", claim, index, covered, events)
        return [b"OK", done.epoch.encode(), done.first_seq, done.last_seq]

    async def _ask(self, name: str, *args: Any) -> Any:
        method = getattr(self._server, name)
        try:
            return await self._net.call(
                self._node,
                self._service,
                f"log {name}{_told(args)}",
                lambda: at_once(method(*args)),
            )
        except NoAnswer as error:
            raise ports.LogUnavailable(str(error)) from error


def _told(args: Sequence[Any]) -> str:
    told: list[str] = []
    for arg in args:
        if isinstance(arg, ports.Claim):
            told.append(f"{arg.message_id}#{arg.attempt} in {arg.epoch}")
        elif isinstance(arg, list):
            told.append("+".join(f"{type(e).__name__}{getattr(e, 'offset', '')}" for e in arg))
        else:
            told.append(str(arg)[:40])
    return f"({', '.join(told)})"


def _asked(name: str) -> Any:
    async def method(self: Log, *args: Any) -> Any:
        return await self._ask(name, *args)

    method.__name__ = name
    return method


async def _nobody(_self: Log, _conversation_id: str) -> frozenset[str]:
    return frozenset()  # nobody is removed from a conversation in a simulation


Log.revoked = _nobody  # type: ignore[method-assign]
for _name in (
    "claim",
    "rejoin",
    "adopt",
    "announce",
    "renew",
    "release",
    "leased",
    "request_cancel",
    "delete",
    "read",
    "pack",
    "new_server",
    "note_server",
    "note_time",
    "noted_time",
):
    setattr(Log, _name, _asked(_name))


class PubSub:
    """`streams.log.ports.PubSub` of one process. `trouble`: the share of deliveries that are lost,
    doubled or overtaken.
    """

    def __init__(
        self, loop: VirtualLoop, rng: random.Random, node: Node, server: Server, service: Service
    ) -> None:
        self._loop, self._rng, self._node, self._server, self._service = (
            loop,
            rng,
            node,
            server,
            service,
        )
        self._channels: dict[bytes, None] = {}
        self._unheard = self._stop = None
        self.connected = True
        self.trouble = 0.0
        self._at = 0.0
        node.on_death.append(self._forget)

    async def start(
        self,
        receive: Callable[[list[tuple[bytes, bytes]]], None],
        subscribed: Callable[[bytes], None],
    ) -> None:
        """Call `receive` with published messages, and `subscribed` after a break."""
        self._receive, self._subscribed = receive, subscribed
        self._stop = self._server.listen(self._published)

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel."""
        await asyncio.sleep(self._rng.uniform(0.0002, 0.004))
        if not self.connected or not self._service.up or self._service.paused:
            await asyncio.sleep(5.0)
            raise ports.LogUnavailable("SUBSCRIBE was not confirmed")
        self._channels[channel.encode()] = None

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        self._channels.pop(channel.encode(), None)

    def cut(self) -> None:
        """Lose the connection."""
        self.connected = False

    def mend(self) -> None:
        """Be connected and subscribed again; the process hears of it in its own time."""
        self.connected = True
        for channel in self._channels:
            self._loop.call_later(0.001, self._again, channel, context=self._node.context)

    async def aclose(self) -> None:
        """Stop listening."""
        self._forget()

    def _again(self, channel: bytes) -> None:
        if self.connected and channel in self._channels:
            self._subscribed(channel)

    def _forget(self) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None

    def _published(self, channel: str, payload: bytes) -> None:
        name = channel.encode()
        if not self.connected or name not in self._channels:
            return
        for _ in range(2 if self._rng.random() < self.trouble else 1):
            if self._rng.random() < self.trouble:
                continue
            delay = self._rng.uniform(0.0001, 0.003)
            if self._rng.random() < self.trouble:
                at = self._loop.time() + delay + self._rng.uniform(0.0, 0.3)
            else:
                at = self._at = max(self._loop.time() + delay, self._at + 1e-6)
            self._loop.call_at(at, self._arrive, name, payload, context=self._node.context)

    def _arrive(self, channel: bytes, payload: bytes) -> None:
        if self.connected and channel in self._channels:
            self._receive([(channel, payload)])
