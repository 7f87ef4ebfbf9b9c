"""A bug at any point of an attempt: the answer ends after some tries, a cancel ends it at once, and
nobody waits for a lease.

Every call of store, log and jobs between an attempt's claim and its end is broken in turn, and so
is every decision. Watching healthy attempts finds the calls, so a new call is tested without being
listed here.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.worker_rig import NoJobs, Script, Step, events_of, runner_over, services_over
from tokenwire.models.answers import Checkpoint
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.protocol.states import UNFINISHED
from tokenwire.providers import base
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import closing
from tokenwire.worker.deaths import MAX_FAILED_STARTS


class Bug(Exception):
    """An unexpected error."""


class Watched:
    """Records each call of another object; breaks those of one name."""

    def __init__(self, inner: Any, calls: list[str]) -> None:
        self._inner, self._calls = inner, calls
        self.broken: str | None = None
        self.times = 10**6

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **options: Any) -> Any:
            self._calls.append(name)
            if name == self.broken and self.times > 0:
                self.times -= 1
                raise Bug(name)
            return await found(*arguments, **options)

        return call


@dataclass
class Rig:
    """An answer whose first attempt died with some text, an item and the name of a run."""

    real: Store
    row: Row
    memory: MemoryLog = field(default_factory=MemoryLog)
    calls: list[str] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store: Any = Watched(self.real, self.calls)
        self.log: Any = Watched(self.memory, self.calls)
        self.jobs: Any = Watched(NoJobs(), self.calls)

    def break_call(self, name: str, times: int = 10**6) -> None:
        for part in (self.store, self.log, self.jobs):
            if hasattr(part._inner, name):
                part.broken, part.times = name, times

    async def die(self) -> None:
        claim = await self.memory.claim(self.row.conversation_id, self.row.id, 0, 0.0)
        assert await self.real.begin_attempt(self.row.id, claim.attempt, "m")
        chunk = events.Chunk(self.row.id, claim.attempt, 0, "Held ", 0)
        done = await self.memory.append(
            claim, 0, 0, [events.Start(self.row.id, claim.attempt, "m"), chunk]
        )
        saved = Checkpoint(self.row.id, claim.attempt, "Held ", "", claim.epoch, done.last_seq)
        await self.real.checkpoint([saved])

    async def generate(self, *steps: Step, hand_over: bool = False, rung: str = "prefix") -> None:
        """One delivery of the job, then no wait for a lease."""
        services = services_over(self.store, self.log, self.jobs)
        object.__setattr__(
            services, "notify_operators", lambda _error, facts: self.told.append(facts)
        )
        waits = asyncio.Event()

        async def wait() -> None:
            waits.set()
            await asyncio.Event().wait()

        runner = runner_over(
            services, Script([*steps, *([wait] if hand_over else [])]), continuation=rung
        )
        job = asyncio.create_task(runner.generate(self.row.id))
        if hand_over:
            reached = asyncio.create_task(waits.wait())
            await asyncio.wait((job, reached), return_when=asyncio.FIRST_COMPLETED)
            reached.cancel()
            await runner.drain(0)
        with contextlib.suppress(Bug):
            await job
        async with self.real.writing() as session:
            await session.execute(text("UPDATE messages SET due_at = NULL"))

    async def reread(self) -> Row:
        row = await self.real.message(self.row.id)
        assert row is not None
        return row

    async def until_ended(self, *steps: Step, **options: Any) -> Row:
        for _ in range(3 * MAX_FAILED_STARTS):
            await self.generate(*steps, **options)
            row = await self.reread()
            if row.status not in UNFINISHED:
                return row
            if not await self.memory.leased(row.conversation_id, row.id):
                continue
            assert self.log.broken == "release", "the next try would find the answer taken"
            await asyncio.sleep(0.25)  # as long as the lease
        raise AssertionError(
            f"it goes on and on: {row.status}, {row.starts} starts, {row.tries} tries"
        )


@pytest.fixture
async def rig(sqlite_store: Store) -> Rig:
    conversation = await sqlite_store.create_conversation("me")
    posted = await sqlite_store.post(Post(conversation.id, "me", "hi", "m"))
    rig = Rig(sqlite_store, posted.assistant_message)
    await rig.die()
    return rig


SCENES: dict[str, tuple[Sequence[Step], dict[str, Any]]] = {
    "whole": ([[base.TextDelta("more"), base.Finish("stop")]], {}),
    "restarted": ([[base.TextDelta("anew"), base.Finish("stop")]], {"rung": "restart"}),
    "interrupted": ([[base.TextDelta("m")], base.Interrupted("cut")], {}),
    "refused": ([base.InvalidRequest("no")], {}),
    "handed over": ([[base.TextDelta("m")]], {"hand_over": True}),
}
CALLED = {
    *(
        "message",
        "blocked_by",
        "claim",
        "begin_attempt",
        "read",
        "note_attempt",
        "conversation_of",
        "history",
        "note_bill",
        "append",
    ),
    *(
        "finish",
        "terminal_announced",
        "next_queued",
        "title",
        "checkpoint",
        "schedule_retry",
        "release",
        "generate",
        "hand_back",
    ),
}
ESSENTIAL = {"message", "begin_attempt", "finish", "blocked_by"}
"""Without these, no end can be stored or nothing begins. test_damaged_rows has unreadable rows."""


@pytest.mark.parametrize("scene", SCENES)
async def test_all_calls_are_known(rig: Rig, scene: str) -> None:
    """Each call of a healthy attempt between its claim and its end is broken below."""
    steps, options = SCENES[scene]
    await rig.generate(*steps, **options)
    assert set(rig.calls) - {"renew", "has_readers", "leased", "now_ms"} <= CALLED


@pytest.mark.sampled(8)
@pytest.mark.parametrize("scene", ["restarted", "interrupted"])
@pytest.mark.parametrize("name", sorted(CALLED - ESSENTIAL))
async def test_a_call_that_always_fails(rig: Rig, name: str, scene: str) -> None:
    """The answer ends: normally if the call is optional, otherwise with an internal error and the
    visible text.
    """
    steps, options = SCENES[scene]
    rig.break_call(name)
    row = await rig.until_ended(*steps, **options)
    assert row.status in ("complete", "error")
    if row.status == "error" and scene == "restarted":
        assert (row.error or {})["code"] == "internal_error"
        assert rig.told, "operators are told"
    assert row.content.startswith("Held ") or (scene == "restarted" and row.content in ("", "anew"))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("scene", ["handed over"])
@pytest.mark.parametrize("name", sorted(CALLED))
async def test_a_call_that_fails_for_a_while(rig: Rig, name: str, scene: str) -> None:
    """Any call, even one that no end can do without."""
    steps, options = SCENES[scene]
    rig.break_call(name, times=MAX_FAILED_STARTS)
    for _ in range(MAX_FAILED_STARTS + 1):
        await rig.generate(*steps, **options)
    row = await rig.until_ended(*SCENES["whole"][0])
    assert row.status in ("complete", "error")


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", sorted(CALLED - ESSENTIAL))
async def test_a_cancel_always_works(rig: Rig, name: str) -> None:
    """Whatever fails. If its claim could not be released, the attempt counts as frozen."""
    rig.break_call(name)
    await rig.generate([base.TextDelta("more")], base.Interrupted("cut"))
    if (await rig.reread()).status == "error":
        return  # a bug that ends an answer at once
    again = True
    while again:
        again = False
        with contextlib.suppress(Bug):
            again = await closing.cancel(rig.store, rig.log, rig.jobs, rig.row.id, "me")
        assert not again or name == "release"
        await asyncio.sleep(0.1 if again else 0)
    row = await rig.reread()
    assert (row.status, row.cancel_by) == ("cancelled", "me")


DECISIONS = [
    *("runner.recover", "runner.plan_attempt", "runner.Attempt", "runner.ask"),
    "planning.answer_of",
    "planning._saved_run",
    "planning.is_attachable",
    "planning.plan",
    "planning.PlannedAttempt.continuation",
    "planning.UnsavedParts.following",
    "planning.Reported.of",
    "planning.StartingPoint",
    "planning.Draft",
    "planning.lost_in",
    *("asking.context.messages", "asking.context.options", "asking.Request"),
]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("name", DECISIONS)
@pytest.mark.parametrize("ends", ["by itself", "cancelled"])
async def test_a_failing_decision(
    rig: Rig, name: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pure code also meets unexpected values."""
    raising = property(_raises) if name.endswith("continuation") else _raises
    monkeypatch.setattr(f"tokenwire.worker.{name}", raising)
    if ends == "by itself":
        row = await rig.until_ended(*SCENES["whole"][0])
        assert (row.status, (row.error or {})["code"], row.content) == (
            "error",
            "internal_error",
            "Held ",
        )
        last = (await events_of(rig.memory, row))[-1]
        assert isinstance(last, events.Error)
    else:
        await closing.cancel(rig.store, rig.log, rig.jobs, rig.row.id, "me")
        assert (await rig.reread()).status == "cancelled"


@pytest.mark.parametrize(
    "name",
    [
        "attempt.failure.decide",
        "attempt.outcome.make_ending",
        "attempt.billing.Bill.of",
        "attempt.run.NamedRun.leave",
        "attempt.draft.Draft.take",
        "attempt.lifecycle.Lifecycle.take",
    ],
)
async def test_an_attempt_that_fails_at_its_end(
    rig: Rig, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code that carries a verdict out may fail, too."""
    monkeypatch.setattr(f"tokenwire.worker.{name}", _raises)
    row = await rig.until_ended([base.TextDelta("more")], base.Interrupted("cut"))
    assert row.status in ("error", "complete")


def _raises(*_arguments: object, **_options: object) -> Any:
    raise Bug


DAMAGE = ["5", '[{"at": "x", "id": 5}]', "no JSON"]
COLUMNS = ["parts", "parts_kept", "seams", "usage", "reported", "error", "options"]


@pytest.mark.sampled(7)
@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("ends", ["by itself", "cancelled", "swept"])
async def test_a_misshapen_value_in_a_row(rig: Rig, column: str, ends: str) -> None:
    """It is dropped: the answer continues, ends, and is announced."""
    for value in DAMAGE:
        conversation = await rig.real.create_conversation("me")
        rig.row = (await rig.real.post(Post(conversation.id, "me", "hi", "m"))).assistant_message
        await rig.die()
        async with rig.real.writing() as session:
            await session.execute(text(f"UPDATE messages SET {column} = :value"), {"value": value})
        if ends == "by itself":
            row = await rig.until_ended(*SCENES["whole"][0])
            assert (row.status, row.content) == ("complete", "Held more"), value
        elif ends == "cancelled":
            await closing.cancel(rig.store, rig.log, rig.jobs, rig.row.id, "me")
            row = await rig.reread()
            assert (row.status, row.content) == ("cancelled", "Held "), value
        else:
            async with rig.real.writing() as session:
                await session.execute(
                    text("UPDATE messages SET status = 'error' WHERE id = :id"), {"id": rig.row.id}
                )
            await closing.announce_end(rig.store, rig.log, await rig.reread())
            last = (await events_of(rig.memory, rig.row))[-1]
            assert isinstance(last, events.Error), value
            assert last.code, value
