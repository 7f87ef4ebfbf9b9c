"""Random histories of two workers, a canceller and repetitions: the invariants hold, and both logs
agree.
"""

import asyncio
import json
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import many
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent, Chunk, Complete, Title
from tokenwire.streams.log import keys
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import Appended, Claim, Limits, Log, Refused
from tokenwire.streams.log.redis import RedisLog

LEASE = 60.0
LIMITS = Limits(max_events=32, max_bytes=2000)
MESSAGES = ("m1", "m2")
WORKERS = (0, 1)

actor = st.tuples(st.sampled_from(WORKERS), st.sampled_from(MESSAGES))
operation = st.one_of(
    st.tuples(st.just("claim"), actor, st.integers(0, 3)),
    st.tuples(st.just("append"), actor, st.integers(1, 12)),
    st.tuples(st.just("append"), actor, st.integers(1, 12)),
    st.tuples(st.just("repeat"), actor, st.just(0)),
    st.tuples(st.just("skip"), actor, st.just(0)),
    st.tuples(st.just("finish"), actor, st.just(0)),
    st.tuples(st.just("release"), actor, st.just(0)),
    st.tuples(st.just("renew"), actor, st.just(0)),
    st.tuples(st.just("adopt"), actor, st.integers(0, 50)),
    st.tuples(st.just("rejoin"), actor, st.integers(-1, 2)),
    st.tuples(st.just("cancel"), actor, st.just(0)),
    st.tuples(st.just("announce"), actor, st.integers(0, 3)),
    st.tuples(st.just("read"), actor, st.integers(0, 60)),
    st.tuples(st.just("pack"), actor, st.just(0)),
)


@dataclass
class Worker:
    """The state that one worker has of one answer."""

    claim: Claim
    next_index: int = 0
    last: tuple[int, list[AnyEvent]] | None = None
    acknowledged: int = 0


@dataclass
class History:
    """Runs operations on one log and records the results; epochs are named by their order."""

    log: Log
    conversation: str
    lease: float = LEASE
    claims: list[tuple[str, int, int]] = field(default_factory=list)
    """(message, attempt, top at that moment)"""
    workers: dict[tuple[int, str], Worker] = field(default_factory=dict)
    epochs: list[str] = field(default_factory=list)
    story: list[object] = field(default_factory=list)
    serial: int = 0

    async def run(self, operations: list[tuple[str, tuple[int, str], int]]) -> None:
        for name, who, number in operations:
            try:
                outcome: object = await getattr(self, name)(who, number)
            except Refused as refusal:
                outcome = (type(refusal).__name__, str(refusal))
            self.story.append((name, self.plain(outcome)))

    def plain(self, outcome: object) -> object:
        """Without the random names of epochs."""
        if isinstance(outcome, Claim):
            return self.epoch(outcome.epoch), outcome.attempt
        if isinstance(outcome, Appended):
            return self.epoch(outcome.epoch), outcome.first_seq, outcome.last_seq
        if isinstance(outcome, Cursor):
            return self.epoch(outcome.epoch), outcome.seq
        return outcome

    def epoch(self, name: str) -> int:
        if name not in self.epochs:
            self.epochs.append(name)
        return self.epochs.index(name)

    async def claim(self, who: tuple[int, str], sql_attempt: int) -> Claim:
        claim = await self.log.claim(self.conversation, who[1], sql_attempt, self.lease)
        self.claims.append(
            (who[1], claim.attempt, (await self.log.read(self.conversation, None, 0, 0)).top)
        )
        self.workers[who] = Worker(claim)
        return claim

    async def append(self, who: tuple[int, str], count: int) -> Appended | None:
        return await self.send(who, [self.chunk(who) for _ in range(count)])

    async def finish(self, who: tuple[int, str], _: int) -> Appended | None:
        worker = self.workers.get(who)
        return await self.send(
            who,
            [Complete(who[1], worker.claim.attempt if worker else 0, "stop", None, 0, 0, [], 0, 0)],
        )

    async def send(self, who: tuple[int, str], events: list[AnyEvent]) -> Appended | None:
        worker = self.workers.get(who)
        if worker is None:
            return None
        worker.last = (worker.next_index, events)
        appended = await self.log.append(
            worker.claim, worker.next_index, worker.acknowledged, events
        )
        worker.next_index += 1
        worker.acknowledged = appended.last_seq
        return appended

    async def repeat(self, who: tuple[int, str], _: int) -> Appended | None:
        worker = self.workers.get(who)
        if worker is None or worker.last is None:
            return None
        index, events = worker.last
        appended = await self.log.append(worker.claim, index, worker.acknowledged, events)
        worker.next_index = index + 1
        return appended

    async def skip(self, who: tuple[int, str], _: int) -> Appended | None:
        worker = self.workers.get(who)
        return worker and await self.log.append(
            worker.claim, worker.next_index + 1, 0, [self.chunk(who)]
        )

    async def release(self, who: tuple[int, str], _: int) -> None:
        if who in self.workers:
            await self.log.release(self.workers[who].claim)

    async def renew(self, who: tuple[int, str], _: int) -> str | None:
        return await self.log.renew(self.workers[who].claim, LEASE) if who in self.workers else None

    async def adopt(self, who: tuple[int, str], length: int) -> Appended | None:
        worker = self.workers.get(who)
        if worker is None:
            return None
        page = await self.log.read(self.conversation, None, 0, 0)
        seen = Cursor(page.epoch, page.top - (length % 4 == 3))  # an older state was seen
        told: list[AnyEvent] = [self.chunk(who) for _ in range(length % 3)]
        claim, appended = await self.log.adopt(worker.claim, seen, told, LEASE)
        self.workers[who] = Worker(claim)
        return appended

    async def rejoin(self, who: tuple[int, str], number: int) -> Claim | None:
        worker = self.workers.get(who)
        if worker is None:
            return None
        worker.claim = await self.log.rejoin(worker.claim, worker.next_index - number, LEASE)
        return worker.claim

    async def cancel(self, who: tuple[int, str], _: int) -> bool:
        return await self.log.request_cancel(self.conversation, who[1], f"user {who[0]}")

    async def announce(self, who: tuple[int, str], rev: int) -> Cursor:
        return await self.log.announce(self.conversation, who[1], rev, Title(f"title {rev}", rev))

    async def read(self, _: tuple[int, str], after: int) -> tuple[object, ...]:
        page = await self.log.read(self.conversation, None, after, 7)
        return (self.epoch(page.epoch), page.oldest, page.top, page.floor, page.entries)

    async def pack(self, _: tuple[int, str], __: int) -> int:
        return await self.log.pack(self.conversation)

    def chunk(self, who: tuple[int, str]) -> AnyEvent:
        """Text that occurs once in a history, so that a repetition shows."""
        self.serial += 1
        worker = self.workers.get(who)
        return Chunk(who[1], worker.claim.attempt if worker else 0, 0, f"#{self.serial}", 0)


def finish_at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits: a log in memory that is up."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


@settings(max_examples=many(300), deadline=None)
@given(st.lists(operation, min_size=20, max_size=80))
def test_invariants_of_any_history(operations: list[tuple[str, tuple[int, str], int]]) -> None:
    """No hole, no duplicate batch, no event of an attempt after a newer claim, nothing after the
    terminal event.
    """
    log = MemoryLog(Limits(), lambda: 0.0)
    published: list[bytes] = []
    log.listen(
        lambda channel, payload: published.append(payload) if channel == keys.channel("c") else None
    )
    history = History(
        log, "c", lease=0
    )  # every claim takes over: only the fence keeps workers apart
    finish_at_once(history.run(operations))
    seqs = [int(payload.split(b":", 2)[1]) for payload in published]
    assert seqs == list(range(1, len(seqs) + 1))
    events = [json.loads(payload.split(b":", 2)[2]) for payload in published]
    assert [event["seq"] for event in events] == seqs
    texts = [
        event["content"]
        for event in events
        if event["type"] == "chunk" and event["content"].startswith("#")
    ]
    assert len(texts) == len(set(texts))
    for message, attempt, top in history.claims:
        late = [
            event
            for event in events[top:]
            if event.get("message_id") == message and event["attempt"] < attempt
        ]
        assert late == []
    for message in MESSAGES:
        mine = [event for event in events if event.get("message_id") == message]
        ends = [place for place, event in enumerate(mine) if event["type"] == "complete"]
        assert ends in ([], [len(mine) - 1])


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(operation, min_size=10, max_size=60))
def test_memory_and_valkey_agree(
    valkey_url: str, operations: list[tuple[str, tuple[int, str], int]]
) -> None:
    """Each result of each call is the same, including refusals and trimmed pages."""

    async def both() -> tuple[list[object], list[object]]:
        real = RedisLog(valkey_url, LIMITS)
        try:
            histories = (
                History(real, uuid.uuid4().hex),
                History(MemoryLog(LIMITS, lambda: 0.0), "c"),
            )
            for history in histories:
                await history.run(operations)
        finally:
            await real.aclose()
        return histories[0].story, histories[1].story

    on_valkey, in_memory = asyncio.run(both())
    assert on_valkey == in_memory
