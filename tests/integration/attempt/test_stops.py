"""worker.attempt.run: cancels, deploys and deletions at any moment."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.answers import held as held_of
from tests.integration.attempt.rig import DONE, Clock, Rig
from tests.integration.worker_rig import LEASE_SECONDS, Script, kinds, text_of
from tokenwire.config.terms import AnswerTerms
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import Claim
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.intake import Intake
from tokenwire.worker.attempt.lifecycle import (
    CancelAsked,
    Disowned,
    Failed,
    HandedOver,
    Verdict,
)
from tokenwire.worker.attempt.run import Attempt


async def test_a_cancel_while_streaming(rig: Rig) -> None:
    """The visible text stays, the provider's stream is closed, and the canceller is named."""

    async def ask() -> None:
        await rig.said()
        await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")

    script = await rig.run(
        [base.TextDelta("seen")], ask, [base.TextDelta(" unseen")], asyncio.Event().wait
    )  # type: ignore[arg-type]
    log, row = await rig.events(), await rig.reread()
    assert (row.status, row.content) == ("cancelled", "seen")
    end = log[-1]
    assert isinstance(end, events.Cancelled)
    assert (end.by, end.length) == ("me", 4)
    assert end.usage == events.Usage(1, 1, estimated=True)
    assert script.closed


async def test_a_cancel_while_the_provider_is_silent(rig: Rig) -> None:
    """The renewal of the lease brings the news, since nothing is appended."""

    async def ask() -> None:
        await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
        await asyncio.Event().wait()

    await rig.run(ask)
    assert (await rig.reread()).status == "cancelled"


async def test_a_cancel_while_the_reply_to_an_append_is_lost(rig: Rig) -> None:
    """The batch was appended and seen: its text stays, and the terminal event has its own
    number.
    """
    append, renew, lost, told = rig.log.append, rig.log.renew, asyncio.Event(), asyncio.Event()

    async def renew_and_tell(claim: Claim, lease_seconds: float) -> str | None:
        by = await renew(claim, lease_seconds)
        if by is not None:
            asyncio.get_running_loop().call_soon(told.set)
        return by

    async def append_unheard(
        claim: Claim, index: int, covered: int, batch: Sequence[events.AnyEvent]
    ) -> Any:
        done = await append(claim, index, covered, batch)
        if not lost.is_set() and "Chunk" in kinds(list(batch)):
            lost.set()
            await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
            await told.wait()  # the renewal brings the cancel; then the batch is repeated
            return await append(claim, index, covered, batch)
        return done

    rig.log.append, rig.log.renew = append_unheard, renew_and_tell  # type: ignore[method-assign]
    await rig.run([base.TextDelta("seen")], asyncio.Event().wait)  # type: ignore[arg-type]
    log, row = await rig.events(), await rig.reread()
    assert (row.status, row.content, text_of(log)) == ("cancelled", "seen", "seen")
    assert isinstance(log[-1], events.Cancelled)
    assert log[-1].length == 4


async def test_a_cancel_outranks_a_deploy(rig: Rig) -> None:
    """A hand-over is refused because of a cancel: a truncated answer is not complete."""
    append, attempt = rig.log.append, await rig.attempt()

    async def deploy_and_cancel(
        claim: Claim, index: int, covered: int, batch: Sequence[events.AnyEvent]
    ) -> Any:
        if index == 1:
            attempt.stop(HandedOver())
            await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
        return await append(claim, index, covered, batch)

    rig.log.append = deploy_and_cancel  # type: ignore[method-assign]
    await attempt.run(
        Script([[base.TextDelta("whole answer"), *DONE]]),
        base.Request([base.HistoryMessage("user", "hi")]),
        "m",
    )
    assert (await rig.reread()).status == "cancelled"


async def test_a_deletion_while_streaming(rig: Rig) -> None:
    """The job ends without an error."""

    async def delete() -> None:
        await rig.store.delete_conversation(rig.row.conversation_id)
        await rig.log.delete(rig.row.conversation_id)

    script = await rig.run(
        [base.TextDelta("a")], delete, [base.TextDelta("b")], [base.TextDelta("c"), *DONE]
    )
    assert script.closed
    assert await rig.store.message(rig.row.id) is None


async def test_handed_over_on_a_deploy(rig: Rig) -> None:
    """Checkpoint, release, requeue: the successor can claim at once and holds the same text."""
    attempt = await rig.attempt()

    async def deploy() -> None:
        while not attempt.uncheckpointed:
            await asyncio.sleep(0)
        attempt.stop(HandedOver())
        await asyncio.Event().wait()

    await attempt.run(
        Script([[base.TextDelta("so far")], deploy]),
        base.Request([base.HistoryMessage("user", "hi")]),
        "m",
    )
    row = await rig.reread()
    assert (row.content, row.tries) == ("so far", 0)
    assert rig.jobs.sent == [(rig.row.id, None)]
    assert (await rig.log.claim(row.conversation_id, row.id, row.attempt, 1)).attempt == 2


@pytest.mark.parametrize("end", [HandedOver(), Failed(base.Unavailable("down"))])
async def test_a_released_lease_stays_released(rig: Rig, end: HandedOver | Failed) -> None:
    """However slowly the queue accepts the job: the lease is not renewed meanwhile, so the
    successor can claim it.
    """
    attempt = await rig.attempt()
    generate = rig.jobs.generate

    async def slowly(message_id: str, delay_ms: int | None = None) -> None:
        await asyncio.sleep(LEASE_SECONDS)
        assert not await rig.log.leased(rig.row.conversation_id, message_id)
        await generate(message_id, delay_ms)

    async def stop() -> None:
        attempt.stop(end)
        await asyncio.Event().wait()

    rig.jobs.generate = slowly  # type: ignore[method-assign]
    await attempt.run(Script([stop]), base.Request([base.HistoryMessage("user", "hi")]), "m")
    assert len(rig.jobs.sent) == 1


async def test_an_answer_without_readers(rig: Rig, clock: Clock) -> None:
    """With the setting on, it is cancelled in the name of `no_readers`; a reader keeps it going."""
    rig.log.listening[keys.channel(rig.row.conversation_id)] += 1
    row, claim = (
        await rig.reread(),
        await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, LEASE_SECONDS),
    )
    mine = await rig.store.begin_attempt(row.id, claim.attempt, "m")
    assert mine is not None
    attempt = Attempt(
        replace(rig.services, terms=AnswerTerms(cancel_without_readers_seconds=60)),
        mine,
        claim,
        Draft(held_of(message_id=row.id), 1),
        "restart",
    )
    has_readers, looks = rig.log.has_readers, 0
    watched_until = asyncio.Event()

    async def count_looks(conversation_id: str) -> bool:
        nonlocal looks
        looks += 1
        return await has_readers(conversation_id)

    async def leave() -> None:
        await rig.said()
        for _ in range(3):
            clock.now += 50
            seen = looks
            while looks < seen + 2:  # the second one began after the first had ended
                await asyncio.sleep(0)
        watched_until.set()
        rig.log.listening.clear()
        clock.now += 100
        await asyncio.Event().wait()

    rig.log.has_readers = count_looks  # type: ignore[method-assign]

    script = Script([[base.TextDelta("a")], leave], stall_seconds=1e6)
    await attempt.run(script, base.Request([base.HistoryMessage("user", "hi")]), "m")
    row = await rig.reread()
    assert watched_until.is_set()
    assert (row.status, row.cancel_by, row.content) == ("cancelled", "no_readers", "a")


async def test_a_notice_is_checked_once(rig: Rig) -> None:
    """After a notice of a cancel, the attempt asks the log once and then waits for the next
    renewal.
    """
    rig.services = replace(rig.services, lease_seconds=60.0)
    renew, asked = rig.log.renew, 0
    attempt = await rig.attempt()

    async def count(claim: Claim, lease_seconds: float) -> str | None:
        nonlocal asked
        asked += 1
        return await renew(claim, lease_seconds)

    async def look() -> None:
        for looks in (1, 2):
            attempt.check_cancel()
            while asked < looks:
                await asyncio.sleep(0)
            for _ in range(50):  # long enough for many more
                await asyncio.sleep(0)
            assert asked == looks

    rig.log.renew = count  # type: ignore[method-assign]
    async with asyncio.timeout(30):
        await attempt.run(
            Script([[base.TextDelta("a")], look, DONE]),
            base.Request([base.HistoryMessage("user", "hi")]),
            "m",
        )
    assert (await rig.reread()).status == "complete"


async def test_our_own_delays_are_no_silence_of_the_provider(rig: Rig, clock: Clock) -> None:
    """A request that waits for the database has not been sent: its silence counts from then on."""
    attempt, silences = await rig.attempt(), list[float]()
    work, reported = attempt.work, list[Verdict]()

    async def begin() -> None:
        clock.now += 1000

    async def listen() -> None:
        silences.append(reader.silent_seconds)
        clock.now += 5
        silences.append(reader.silent_seconds)

    reader = Intake(
        work.draft, work.writer, work.named_run, reported.append, begin, attempt._save_run
    )
    await reader.read(Script([listen, DONE]), base.Request([base.HistoryMessage("user", "hi")]))
    assert silences == [0.0, 5.0]


async def test_a_finished_answer_is_not_handed_over(rig: Rig) -> None:
    """A deploy at the moment of the end: another attempt would only repeat it."""
    attempt = await rig.attempt()
    append = rig.log.append

    async def deploy(claim: Any, index: int, covered: int, batch: Any) -> Any:
        while attempt._intake is None or not attempt._intake.over:
            await asyncio.sleep(0)
        attempt.stop(HandedOver())
        return await append(claim, index, covered, batch)

    rig.log.append = deploy  # type: ignore[method-assign]
    await attempt.run(
        Script([[base.TextDelta("all"), *DONE]]),
        base.Request([base.HistoryMessage("user", "hi")]),
        "m",
    )
    row = await rig.reread()
    assert (row.status, row.content) == ("complete", "all")


@pytest.mark.parametrize("stops", [False, True])
async def test_a_large_batch_does_not_block_the_loop(rig: Rig, stops: bool) -> None:
    """A batch of many deltas is taken in portions; a cancel between two of them counts."""
    attempt = await rig.attempt()
    turns: list[int] = []
    take = Draft.take

    def taken(draft: Draft, batch: Sequence[base.Delta]) -> None:
        turns.append(len(batch))
        take(draft, batch)
        if stops:
            attempt.stop(HandedOver())

    async def others() -> None:
        while len(turns) < 5:
            await asyncio.sleep(0)
        seen.append(len(turns))

    seen: list[int] = []
    task = asyncio.create_task(others())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Draft, "take", taken)
        await attempt.run(
            Script([[base.TextDelta("x")] * 5000, DONE]),
            base.Request([base.HistoryMessage("user", "hi")]),
            "m",
        )
    task.cancel()
    row = await rig.reread()
    if stops:
        assert len(turns) <= 2
    else:
        assert (seen, row.status, row.content) == ([5], "complete", "x" * 5000)


@pytest.mark.parametrize("end", [HandedOver(), Failed(base.Unavailable("down"))])
async def test_a_cancel_during_a_hand_over(rig: Rig, end: HandedOver | Failed) -> None:
    """It ends the answer as soon as the lease is released, by the first canceller; no job
    follows.
    """
    attempt, release = await rig.attempt(), rig.log.release

    async def cancelled(claim: Claim) -> None:
        attempt.stop(CancelAsked("me"))
        attempt.stop(CancelAsked("somebody else"))
        await release(claim)

    async def stop() -> None:
        attempt.stop(end)
        await asyncio.Event().wait()

    rig.log.release = cancelled  # type: ignore[method-assign]
    await attempt.run(Script([stop]), base.Request([base.HistoryMessage("user", "hi")]), "m")
    row = await rig.reread()
    assert (row.status, row.cancel_by, rig.jobs.sent) == ("cancelled", "me", [])


async def test_a_disowned_attempt_saves_nothing_more(rig: Rig) -> None:
    """It no longer owns its text: the checkpointer finds nothing to save, and no job is
    enqueued.
    """
    attempt, unsaved = await rig.attempt(), list[int]()

    async def lose() -> None:
        await rig.said()
        unsaved.append(attempt.uncheckpointed)
        attempt.stop(Disowned())
        unsaved.append(attempt.uncheckpointed)
        await asyncio.Event().wait()

    await attempt.run(
        Script([[base.TextDelta("a")], lose]),
        base.Request([base.HistoryMessage("user", "hi")]),
        "m",
    )
    row = await rig.reread()
    assert unsaved == [1, 0]
    assert (row.status, row.content, rig.jobs.sent) == ("streaming", "", [])
    assert kinds(await rig.events())[-1] == "Chunk"


async def test_losing_the_answer_while_a_run_is_noted_ends_nothing(rig: Rig) -> None:
    """Between the verdict and its execution: the new owner ends the answer."""
    attempt = await rig.attempt()
    leave, carried_out = attempt.work.named_run.leave, list[object]()

    async def lose() -> None:
        attempt.stop(Disowned())
        await leave()

    async def carry_out(verdict: object) -> None:
        carried_out.append(verdict)

    attempt.work.named_run.leave = lose  # type: ignore[method-assign]
    attempt._outcome.carry_out = carry_out  # type: ignore[method-assign]
    await attempt.run(
        Script([[base.TextDelta("all"), *DONE]]),
        base.Request([base.HistoryMessage("user", "hi")]),
        "m",
    )
    assert (carried_out, (await rig.reread()).status) == ([], "streaming")
