"""The log and its pub/sub in this process. They behave like `redis.py` (same tests), on any clock.

For tests and simulations. `MemoryLog` has the rules of the Lua scripts in Python; `MemoryPubSub`
relays what it publishes and can be cut, so that messages are lost.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent, Entry, check_batch, encode, stamp
from tokenwire.streams.hub.log_cursor import fitting
from tokenwire.streams.log import keys
from tokenwire.streams.log.memory_state import (
    Announced,
    LoggedAnswer,
    LogState,
    PackedBlock,
    epoch_name,
)
from tokenwire.streams.log.ports import (
    PAGE_BYTES,
    UNHEARD_SECONDS,
    Appended,
    Busy,
    CancelPending,
    Claim,
    Fenced,
    Gone,
    Limits,
    LogUnavailable,
    Lost,
    Page,
    Sealed,
)


class MemoryLog:
    """`streams.log.ports.Log` in this process. `clock` gives seconds."""

    def __init__(
        self, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits or Limits()
        self.tombstone_seconds = self._limits.tombstone_seconds
        self._clock = clock
        self._states: dict[str, LogState] = {}
        self._tombstones: dict[str, float] = {}
        self._revoked: dict[tuple[str, str], float] = {}
        self._run = 0
        self._noted: str | None = None
        self._time: int | None = None
        self._listeners: list[Callable[[str, bytes], None]] = []
        self.listening: Counter[str] = Counter()
        self._wanted: dict[str, float] = {}
        self._end_hooks: list[Callable[[str], None]] = []
        self._up = asyncio.Event()
        self._up.set()

    # --- what only tests do ---

    def restart(self, *, lose_data: bool = False) -> None:
        """Behave like a restarted server: logs continue in a new epoch.

        `lose_data`: the server has lost everything.
        """
        self._run += 1
        if lose_data:
            self._states.clear()
            self._tombstones.clear()
            self._revoked.clear()
            self._noted = self._time = None

    def go_down(self) -> None:
        """Behave like an unreachable server: `append` waits, other calls raise LogUnavailable."""
        self._up.clear()

    def come_back(self) -> None:
        """End of `go_down`."""
        self._up.set()

    def listen(self, listener: Callable[[str, bytes], None]) -> Callable[[], None]:
        """Call `listener` with (channel, payload) of every message.

        Returns a function that removes the listener.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # --- the log ---

    async def claim(
        self,
        conversation_id: str,
        message_id: str,
        sql_attempt: int,
        lease_seconds: float,
        disobeyed: bool = False,
    ) -> Claim:
        state = self._settle(conversation_id)
        answer = state.answers.get(message_id) or LoggedAnswer()
        if answer.sealed:
            raise Sealed
        now = self._clock()
        if answer.leased(now) and not (disobeyed and answer.disobeys(now)):
            raise Busy
        if answer.cancel_by is not None:
            answer.hold(now, to_end=disobeyed)
        state.answers[message_id] = answer
        answer.attempt = max(answer.attempt, sql_attempt) + 1
        answer.epoch, answer.next_index = state.epoch, 0
        answer.lease_until = self._clock() + lease_seconds
        state.floors.setdefault(message_id, state.top)
        self._touch(state)
        state.forget()
        return Claim(conversation_id, message_id, state.epoch, answer.attempt)

    async def append(
        self, claim: Claim, index: int, covered: int, events: Sequence[AnyEvent]
    ) -> Appended:
        terminal = check_batch(events)
        await self._up.wait()
        state = self._settle(claim.conversation_id)
        answer = _owned(state, claim)
        if index == answer.next_index - 1:
            return Appended(state.epoch, *answer.last_batch)
        if index != answer.next_index:
            raise Lost
        if answer.sealed:
            raise Sealed
        if answer.cancel_by is not None and not terminal:
            answer.mark_heard()
            raise CancelPending(answer.cancel_by)
        appended = self._write(claim.conversation_id, state, events)
        answer.last_batch, answer.next_index = (
            (appended.first_seq, appended.last_seq),
            index + 1,
        )
        if terminal:
            answer.sealed, answer.lease_until = True, 0.0
            del state.floors[claim.message_id]
            self._publish(keys.CHANGES, claim.conversation_id.encode())
            for hook in self._end_hooks:
                hook(claim.conversation_id)
        else:
            state.floors[claim.message_id] = max(
                state.floors[claim.message_id], min(covered, state.top)
            )
        state.trim(self._limits, self._clock())
        return appended

    def on_end(self, hook: Callable[[str], None]) -> None:
        self._end_hooks.append(hook)

    async def rejoin(
        self, claim: Claim, index: int, lease_seconds: float, covered: int = 0
    ) -> Claim:
        state = self._settle(claim.conversation_id)
        answer = state.answers.get(claim.message_id) or LoggedAnswer()
        if claim.attempt < answer.attempt:
            raise Fenced
        known = answer.epoch == state.epoch or (
            answer.epoch == claim.epoch and state.shared(claim.epoch) is not None
        )
        is_there = (state.shared(claim.epoch) or 0) >= covered
        mine = claim.attempt == answer.attempt and known and is_there
        if not mine or index not in (answer.next_index, answer.next_index - 1):
            raise Sealed if answer.sealed else Lost
        answer.epoch = state.epoch
        if not answer.sealed:
            answer.lease_until = self._clock() + lease_seconds
        self._touch(state)
        return replace(claim, epoch=state.epoch)

    async def adopt(
        self, claim: Claim, seen: Cursor, events: Sequence[AnyEvent], lease_seconds: float
    ) -> tuple[Claim, Appended]:
        state = self._settle(claim.conversation_id)
        answer = state.answers.get(claim.message_id) or LoggedAnswer()
        if claim.attempt < answer.attempt:
            raise Fenced
        if answer.sealed:
            raise Sealed
        if seen.epoch != state.epoch or answer.last_batch[1] > seen.seq:
            raise Lost
        state.answers[claim.message_id] = answer
        answer.attempt, answer.epoch, answer.next_index = claim.attempt, state.epoch, 0
        answer.lease_until = self._clock() + lease_seconds
        state.floors.setdefault(claim.message_id, state.top)
        appended = self._write(claim.conversation_id, state, events)
        if events:
            answer.last_batch = (appended.first_seq, appended.last_seq)
        state.trim(self._limits, self._clock())
        return replace(claim, epoch=state.epoch), appended

    async def announce(
        self, conversation_id: str, row_id: str, rev: int, event: AnyEvent
    ) -> Cursor:
        state = self._settle(conversation_id)
        if row_id not in state.announced or state.announced[row_id].rev < rev:
            self._write(conversation_id, state, [event])
            self._publish(keys.CHANGES, conversation_id.encode())
            state.announced[row_id] = Announced(rev, state.epoch, state.top)
            state.trim(self._limits, self._clock())
            state.forget()
        return Cursor(state.epoch, state.top)

    async def renew(self, claim: Claim, lease_seconds: float) -> str | None:
        state = self._settle(claim.conversation_id)
        answer = _owned(state, claim)
        if answer.sealed:
            raise Sealed
        answer.lease_until = self._clock() + lease_seconds
        self._touch(state)
        if answer.cancel_by is not None:
            answer.mark_heard()
        return answer.cancel_by

    async def release(self, claim: Claim) -> None:
        try:
            answer = self._settle(claim.conversation_id).answers.get(claim.message_id)
        except Gone:
            return
        if answer is not None and answer.attempt == claim.attempt:
            answer.lease_until = 0.0

    async def leased(self, conversation_id: str, message_id: str) -> bool:
        answer = self._settle(conversation_id).answers.get(message_id)
        return answer is not None and answer.leased(self._clock())

    async def has_readers(self, conversation_id: str) -> bool:
        self._check_up()
        return (
            self.listening[keys.channel(conversation_id)] > 0
            or self._wanted.get(conversation_id, 0.0) > self._clock()
        )

    async def note_interest(self, conversation_id: str, seconds: float) -> None:
        self._check_up()
        self._wanted[conversation_id] = self._clock() + seconds

    async def request_cancel(self, conversation_id: str, message_id: str, by: str) -> bool:
        if not by:
            raise ValueError("a cancel names who asks for it")
        state = self._settle(conversation_id)
        answer = state.answers.setdefault(message_id, LoggedAnswer())
        if answer.sealed:
            return False
        if answer.cancel_by is None:
            answer.cancel_by, answer.waited_until, answer.heard = (
                by,
                self._clock() + UNHEARD_SECONDS,
                False,
            )
        self._touch(state)
        self._publish(keys.CONTROL, f"cancel {message_id}".encode())
        return True

    async def delete(self, conversation_id: str) -> None:
        self._check_up()
        self._states.pop(conversation_id, None)
        self._tombstones[conversation_id] = self._clock() + self.tombstone_seconds
        self._publish(keys.channel(conversation_id), b"gone")
        self._publish(keys.CHANGES, conversation_id.encode())

    async def touch(self, conversation_id: str) -> None:
        self._check_up()
        self._publish(keys.CHANGES, conversation_id.encode())

    async def revoke(self, conversation_id: str, user_id: str) -> None:
        self._check_up()
        self._revoked[conversation_id, user_id] = self._clock() + self.tombstone_seconds
        self._publish(keys.channel(conversation_id), keys.ACCESS)

    async def readmit(self, conversation_id: str, user_id: str) -> None:
        self._check_up()
        self._revoked.pop((conversation_id, user_id), None)
        self._publish(keys.channel(conversation_id), keys.ACCESS)

    async def revoked(self, conversation_id: str) -> frozenset[str]:
        self._check_up()
        now = self._clock()
        return frozenset(
            user
            for (name, user), until in self._revoked.items()
            if name == conversation_id and until > now
        )

    async def read(
        self,
        conversation_id: str,
        epoch: str | None,
        after: int,
        limit: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        state = self._settle(conversation_id)
        oldest = state.oldest
        entries: list[Entry] = []
        reaches = state.top if epoch is None else state.shared(epoch)
        if reaches is not None and after <= reaches and oldest - 1 <= after < state.top:
            start = after + 1 - oldest
            entries = [
                state.kept[i].entry for i in range(start, min(start + limit, len(state.kept)))
            ]
            entries = list(fitting(entries, max_bytes))
        return Page(
            state.epoch,
            oldest,
            state.top,
            min(state.floors.values(), default=None),
            entries,
            dict(state.forks),
        )

    async def pack(self, conversation_id: str) -> int:
        """Count events as packed, without packing them."""
        state = self._settle(conversation_id)
        self._touch(state)
        return state.pack()

    async def new_server(self) -> str | None:
        self._check_up()
        return None if self._noted == str(self._run) else str(self._run)

    async def note_server(self, identity: str) -> None:
        self._check_up()
        self._noted = identity

    async def note_time(self, milliseconds: int) -> None:
        self._check_up()
        self._time = milliseconds

    async def noted_time(self) -> int | None:
        self._check_up()
        return self._time

    async def check(self) -> str | None:
        self._check_up()
        return None

    async def check_write(self) -> str | None:
        self._check_up()
        return None

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    # --- rules ---

    def _check_up(self) -> None:
        if not self._up.is_set():
            raise LogUnavailable("down")

    def _settle(self, conversation_id: str) -> LogState:
        self._check_up()
        now = self._clock()
        if self._tombstones.get(conversation_id, now) > now:
            raise Gone
        state = self._states.get(conversation_id)
        if state is None or state.expires_at <= now:
            state = self._states[conversation_id] = LogState(
                epoch_name(), self._run, now + self._limits.max_seconds
            )
        elif state.run != self._run:
            state.fork(self._run)
        return state

    def _touch(self, state: LogState) -> None:
        state.expires_at = self._clock() + self._limits.max_seconds

    def _write(self, conversation_id: str, state: LogState, events: Sequence[AnyEvent]) -> Appended:
        first = state.top + 1
        for event in events:
            state.top += 1
            data = stamp(state.top, encode(event))
            state.kept.append(PackedBlock(Entry(state.top, data), self._clock()))
            state.size += len(data)
            self._publish(
                keys.channel(conversation_id), b"%b:%d:%b" % (state.epoch.encode(), state.top, data)
            )
        self._touch(state)
        return Appended(state.epoch, first, state.top)

    def _publish(self, channel: str, payload: bytes) -> None:
        for listener in tuple(self._listeners):
            listener(channel, payload)


def _owned(state: LogState, claim: Claim) -> LoggedAnswer:
    answer = state.answers.get(claim.message_id)
    if claim.epoch != state.epoch or answer is None or answer.epoch != state.epoch:
        raise Lost
    if claim.attempt < answer.attempt:
        raise Fenced
    if claim.attempt > answer.attempt:
        raise Lost
    return answer


class MemoryPubSub:
    """`streams.log.ports.PubSub` on a MemoryLog. Messages arrive in the loop's next iteration."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._channels: set[bytes] = set()
        self._connected = False
        self._arrived: list[tuple[bytes, bytes]] = []
        self._stop: Callable[[], None] | None = None

    async def start(
        self,
        receive: Callable[[list[tuple[bytes, bytes]]], None],
        subscribed: Callable[[bytes], None],
    ) -> None:
        self._receive, self._subscribed = receive, subscribed
        self._stop = self._log.listen(self._publish)
        self._connected = True

    async def subscribe(self, channel: str) -> None:
        if not self._connected:
            raise LogUnavailable("pub/sub is cut")
        if channel.encode() not in self._channels:
            self._channels.add(channel.encode())
            self._log.listening[channel] += 1

    def unsubscribe(self, channel: str) -> None:
        if channel.encode() in self._channels:
            self._channels.discard(channel.encode())
            self._log.listening[channel] -= 1

    def cut(self) -> None:
        """Lose the connection: messages on their way and until `mend` are lost."""
        self._connected = False
        self._arrived.clear()

    def mend(self) -> None:
        """Connect and subscribe again."""
        self._connected = True
        for channel in tuple(self._channels):
            self._subscribed(channel)

    async def aclose(self) -> None:
        self._connected = False
        if self._stop is not None:
            self._stop()
            self._stop = None

    def _publish(self, channel: str, payload: bytes) -> None:
        name = channel.encode()
        if not self._connected or name not in self._channels:
            return
        if not self._arrived:
            asyncio.get_running_loop().call_soon(self._flush)
        self._arrived.append((name, payload))

    def _flush(self) -> None:
        arrived, self._arrived = self._arrived, []
        if arrived:
            self._receive(arrived)
