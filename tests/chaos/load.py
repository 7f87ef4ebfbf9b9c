"""The streams of a run: each is posted, followed by several readers, sometimes cancelled, and
judged by readers, log and row.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from tests.chaos.checks import Folded, difference, fold, parse
from tests.chaos.people import Decision, Offers, People, different
from tests.chaos.permissions import judge_calls
from tests.chaos.provider import ScriptedProvider
from tests.chaos.remarks import Remark, judge_remark
from tests.chaos.rounds import REMARKS, rounds_of
from tests.chaos.script import Script, script
from tests.chaos.watching import Api, EventStreamWatcher, Watcher

MANNERS = ("steady", "dropping", "slow", "events", "late")


@dataclass
class Stream:
    """One answer and everything that is known of it."""

    script: Script
    model: str
    conversation_id: str = ""
    message_id: str = ""
    watchers: list[Watcher] = field(default_factory=list)
    cancel_after: float | None = None
    cancel_called: float | None = None
    cancel_calls: int = 0
    closed_at_cancel: float | None = None
    """Until the provider saw its connection closed; None where none was open."""
    frozen: bool = False
    """Its worker stood still when it was cancelled."""
    killed: list[float] = field(default_factory=list)
    """When a worker died that ran this."""
    log: Folded | None = None
    epoch: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
    unfinished: bool = False
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Its tool calls, and the `decisions` about them, as SQL holds them."""
    decisions: list[dict[str, Any]] = field(default_factory=list)
    applied: list[tuple[int, Decision]] = field(default_factory=list)
    """Calls and the decision about each that the API said it applied."""
    remark: Remark | None = None
    """What a person writes while the answer runs."""
    too_late: int = 0
    """Decisions that the API refused because another came first."""
    redis_faults_at_start: int = 0
    redis_faults_at_end: int = 0
    redis_faults_at_log: int = 0
    """When the log was read: after a loss, the log of an ended answer is written again, unseen by
    its readers.
    """

    def cancelled_within(self) -> float | None:
        """Seconds from the cancel until a steady reader saw the end; None if none did, or the
        answer had ended before.
        """
        ends = [
            watcher.ended_at
            for watcher in self.watchers
            if watcher.manner in ("steady", "events") and watcher.ended == "cancelled"
        ]
        if self.cancel_called is None or not ends or min(ends) < self.cancel_called:
            return None
        return min(ends) - self.cancel_called

    def takeovers(self) -> list[tuple[float, float]]:
        """When its worker died, and seconds until its next chunk, or its end. After two deaths, the
        last one counts.
        """
        chunks = [watcher.first_chunks for watcher in self.watchers]
        attempts = {
            attempt: min(c[attempt] for c in chunks if attempt in c)
            for c in chunks
            for attempt in c
        }
        begun, ends = attempts.values(), [watcher.ended_at for watcher in self.watchers]
        found: list[tuple[float, float]] = []
        for index, died in enumerate(self.killed):
            until = self.killed[index + 1] if index + 1 < len(self.killed) else float("inf")
            after = [at for at in (*begun, *ends) if died < at <= until]
            if after:
                found.append((died, min(after) - died))
        return found


@dataclass
class Load:
    """Keeps `concurrent` streams going until told to stop."""

    api: Api
    provider: ScriptedProvider
    valkey_url: str
    models: dict[str, int]
    """Name -> weight."""
    seed: int
    readers: int
    pieces: tuple[int, int]
    cancel_share: float = 0.1
    manners: Sequence[str] = MANNERS
    """Of each stream's readers, in turn."""
    offers: Offers = different
    approved: set[int] = field(default_factory=set)
    """Places of calls that people approve."""
    remark_share: float = 0.0
    redis_faults: int = 0
    streams: list[Stream] = field(default_factory=list)
    stopping: bool = False

    async def run(self, concurrent: int) -> None:
        """Until `stopping`, and all that began has ended or its time is over."""
        async with asyncio.TaskGroup() as group:
            for place in range(concurrent):
                group.create_task(self._place(place))

    async def _place(self, place: int) -> None:
        await asyncio.sleep(place * 0.1)
        while not self.stopping:
            stream = self.plan(len(self.streams))
            try:
                await self.one(stream)
            except (
                AssertionError
            ) as refused:  # one request that was refused ends neither the run nor its report
                stream.refused = str(refused)

    def plan(self, number: int) -> Stream:
        """The stream of this number: the same for the same seed."""
        dice = random.Random(f"{self.seed}/{number}")
        (model,) = dice.choices(list(self.models), list(self.models.values()))
        stream = Stream(script(self.seed * 100_000 + number, dice.randint(*self.pieces)), model)
        if dice.random() < self.cancel_share:
            stream.cancel_after = dice.uniform(0.0, 4.0)
        if dice.random() < self.remark_share:
            text = script(stream.script.number + REMARKS, 20)
            stream.remark = Remark(text, dice.uniform(0.0, 6.0), twice=dice.random() < 0.5)
        self.streams.append(stream)
        return stream

    async def cancel_frozen(self, stream: Stream) -> None:
        """Somebody cancels what a worker streams that stands still."""
        if stream.cancel_called is None and not any(watcher.ended for watcher in stream.watchers):
            stream.cancel_called, stream.frozen, repeated = (
                time.monotonic(),
                True,
                self.api.repeated,
            )
            await self.api.call("POST", f"/api/messages/{stream.message_id}/cancel")
            stream.cancel_calls = 1 + self.api.repeated - repeated

    async def one(self, stream: Stream) -> None:
        """From the post to the end of every reader."""
        stream.redis_faults_at_start = self.redis_faults
        conversation = await self.api.call("POST", "/api/conversations", {"model": stream.model})
        stream.conversation_id = conversation["id"]
        key = {"Idempotency-Key": f"{stream.script.number}"}
        path = f"/api/conversations/{stream.conversation_id}/messages"
        posted = await self.api.call("POST", path, {"content": stream.script.question}, **key)
        stream.message_id = posted["assistant_message"]["id"]
        stream.watchers = [self._watcher(stream, index) for index in range(self.readers)]
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(watcher.watch(3.0 if watcher.manner == "late" else 0))
            for watcher in stream.watchers
        ]
        if stream.cancel_after is not None:
            tasks.append(asyncio.create_task(self._cancel(stream)))
        if rounds_of(stream.model, stream.script.number):
            tasks.append(asyncio.create_task(self._decide(stream)))
        if stream.remark is not None:
            tasks.append(asyncio.create_task(stream.remark.post(self.api, stream.conversation_id)))
        await asyncio.gather(*tasks)
        stream.redis_faults_at_end = self.redis_faults
        await self.read_log(stream)

    def handovers(self) -> list[float]:
        """Seconds from the end of an unfinished request to the next attempt's first chunk.

        A frozen worker's request ends when it wakes up: the attempt that took over began before,
        and gets no hand-over.
        """
        found = []
        for stream in self.streams:
            mine = [asked for asked in self.provider.asked if asked.number == stream.script.number]
            for before, after in itertools.pairwise(mine):
                chunks = [
                    at
                    for watcher in stream.watchers
                    for at in watcher.first_chunks.values()
                    if at > after.began
                ]
                if (
                    before.ended is not None
                    and before.ended <= after.began
                    and not before.whole
                    and chunks
                ):
                    found.append(min(chunks) - before.ended)
        return found

    def _watcher(self, stream: Stream, index: int) -> Watcher:
        manner = self.manners[index % len(self.manners)]
        drop = 0.8 if manner == "dropping" else None
        kind = EventStreamWatcher if manner == "events" else Watcher
        return kind(
            self.api.base,
            stream.conversation_id,
            stream.message_id,
            drop_seconds=drop,
            api=self.api,
            manner=manner,
        )

    async def _cancel(self, stream: Stream) -> None:
        await asyncio.sleep(stream.cancel_after or 0)
        if stream.cancel_called is not None or any(watcher.ended for watcher in stream.watchers):
            return
        before = [
            asked for asked in self.provider.running() if asked.number == stream.script.number
        ]
        stream.cancel_called = time.monotonic()
        repeated = self.api.repeated
        await self.api.call("POST", f"/api/messages/{stream.message_id}/cancel")
        stream.cancel_calls = 1 + self.api.repeated - repeated
        while not all(watcher.done for watcher in stream.watchers):
            if before and all(asked.ended for asked in before):
                break
            await asyncio.sleep(0.02)
        if before and all(asked.ended and asked.ended > stream.cancel_called for asked in before):
            stream.closed_at_cancel = (
                max(asked.ended or 0 for asked in before) - stream.cancel_called
            )

    async def _decide(self, stream: Stream) -> None:
        """People decide about each call that asks, until the answer ends."""
        people = People(self.api, self.offers, self.approved)
        stream.applied = people.applied
        while not all(watcher.done for watcher in stream.watchers):
            await people.decide(stream.message_id)
            await asyncio.sleep(0.3)
        stream.too_late = people.too_late

    async def read_log(self, stream: Stream) -> None:
        """Valkey's own contents of it, read without Tokenwire. Without Valkey, the last read
        counts.
        """
        connection: Any = redis.asyncio.Redis.from_url(
            self.valkey_url, protocol=2, socket_timeout=3
        )
        async with connection as client:
            base = f"tw2:{{{stream.conversation_id}}}"
            with contextlib.suppress(RedisError, OSError):
                async with client.pipeline(transaction=True) as look:
                    look.xrange(f"{base}:packed").xrange(f"{base}:log").hget(
                        f"{base}:state", "epoch"
                    )
                    packed, entries, epoch = await look.execute()
                if (packed or entries) and epoch:
                    stream.epoch = epoch.decode()
                    events = parse(packed, entries)
                    stream.log = fold(events, stream.message_id)
                    if stream.remark is not None:
                        stream.remark.log = fold(events, stream.remark.row.get("id", ""))
                    stream.redis_faults_at_log = self.redis_faults


def judge(stream: Stream, continues: bool) -> tuple[int, int, list[str]]:
    """Lost characters, repeated characters, and all other faults of a stream that was followed to
    its end.
    """
    wrong = [stream.refused] if stream.refused else []
    wrong += [
        f"reader ({watcher.manner}): {watcher.fault}"
        for watcher in stream.watchers
        if watcher.fault
    ]
    wrong += [
        f"reader ({watcher.manner}) never saw the end"
        for watcher in stream.watchers
        if watcher.ended is None and not watcher.fault
    ]
    row = stream.row
    if not row:
        return 0, 0, [*wrong, "no row"]
    status, content = row["status"], row["content"]
    if status not in ("complete", "cancelled", "error"):
        wrong.append(f"row is {status}")
    if status == "cancelled" and stream.cancel_called is None:
        wrong.append("cancelled by nobody")
    if status == "error":
        wrong.append(f"ended in error: {row['error']}")
    lost, repeated = _of_row(stream, status, content)
    for watcher in stream.watchers:
        if watcher.ended not in (None, status):
            wrong.append(f"reader ({watcher.manner}) saw {watcher.ended}, row is {status}")
        less, more = difference(content, watcher.text)
        if less or more:
            wrong.append(f"reader ({watcher.manner}): {less} lost, {more} repeated against the row")
        lost, repeated = lost + less, repeated + more
    wrong += _of_log(stream, content)
    if not row["terminal_announced"]:
        wrong.append("end not announced")
    by_epoch = [terminal.partition(":")[0] for terminal in terminals(stream)]
    if len(by_epoch) != len(set(by_epoch)):
        wrong.append(f"ended more than once: {sorted(terminals(stream))}")
    if continues and stream.redis_faults_at_start == stream.redis_faults_at_end and resets(stream):
        wrong.append(f"{resets(stream)} resets though the provider continues")
    return lost, repeated, wrong


def _of_row(stream: Stream, status: str, content: str) -> tuple[int, int]:
    expected = stream.script.text if status == "complete" else stream.script.text[: len(content)]
    return difference(expected, content)


def _of_log(stream: Stream, content: str) -> list[str]:
    if stream.log is None:
        return []
    wrong = [f"log: {fault}" for fault in stream.log.faults]
    if len(stream.log.terminals) > 1:
        wrong.append(f"log: {len(stream.log.terminals)} terminal events")
    if stream.log.terminals and stream.log.begins and stream.log.text != content:
        wrong.append("log: its text is not the row's")
    return wrong


def judge_tools(stream: Stream, ran: Mapping[str, Sequence[int]]) -> list[str]:
    """All faults of its tool calls. `ran`: of each key, the runs that began."""
    whole = stream.row.get("status") == "complete" and stream.log and stream.log.begins
    logged = stream.log.calls if whole and stream.log else {}
    wrong = list(judge_calls(stream.calls, stream.decisions, ran, logged))
    stored = [(each["number"], each["decision"]) for each in stream.decisions]
    applied = {(number, each["decision"]) for number, each in stream.applied}
    wrong += [f"not stored: {each}" for each in applied - set(stored)]
    if stream.row.get("status") == "complete":
        withdrawn = {call["number"] for call in stream.calls if call["state"] == "withdrawn"}
        wrong += [f"approved, and withdrawn: {each}" for each in stored if each[0] in withdrawn]
        expected = sum(map(len, rounds_of(stream.model, stream.script.number)))
        if len(stream.calls) != expected:
            wrong.append(f"{len(stream.calls)} calls instead of {expected}")
    if stream.remark is not None:
        wrong += judge_remark(stream.remark, stream.message_id, stream.row)
    return wrong


def terminals(stream: Stream) -> set[str]:
    """Cursors of all terminal events that anybody has seen."""
    seen = {terminal for watcher in stream.watchers for terminal in watcher.terminals}
    return seen | {f"{stream.epoch}:{seq}" for seq in (stream.log.terminals if stream.log else ())}


def resets(stream: Stream) -> int:
    """The most that any reader has seen, or the log as it was when the last of them left."""
    same = stream.log is not None and stream.redis_faults_at_log == stream.redis_faults_at_end
    return max(
        (
            *(watcher.resets for watcher in stream.watchers),
            stream.log.resets if same and stream.log else 0,
        ),
        default=0,
    )
