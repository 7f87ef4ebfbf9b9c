"""worker.attempt.writing: the log is lost, refuses, is slow, or belongs to another attempt."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from tests.answers import held as held_of
from tests.integration.attempt.rig import DONE, Rig
from tests.integration.worker_rig import Script, kinds, text_of
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.worker.attempt.writing import MAX_UNACKNOWLEDGED_CHARS


async def test_a_newer_attempt_fences_the_older_off(rig: Rig) -> None:
    """An attempt that was taken for dead writes nothing, neither to the log nor to the row."""

    async def take_over() -> None:
        await rig.log.release(rig.claim)
        successor = await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 60)
        assert await rig.store.begin_attempt(rig.row.id, successor.attempt, "m")

    taking_over: list[asyncio.Task[None]] = []

    async def lose() -> None:
        taking_over.append(
            asyncio.create_task(take_over())
        )  # it is still running when this attempt notices
        await asyncio.shield(taking_over[0])

    script = await rig.run(
        [base.TextDelta("a")], lose, [base.TextDelta("zombie")], [base.TextDelta("!"), *DONE]
    )
    await taking_over[0]
    row = await rig.reread()
    assert (row.status, row.attempt) == ("streaming", 2)
    assert "zombie" not in text_of(await rig.events())
    assert script.closed


async def test_redis_restarted_empty_while_streaming(rig: Rig) -> None:
    """The new log gets the text again; the answer continues to its end."""

    async def lose() -> None:
        await rig.said()
        rig.log.restart(lose_data=True)

    await rig.run(
        [base.SourceDelta("https://x"), base.TextDelta("before ")],
        lose,
        [base.TextDelta("after")],
        DONE,
    )
    log, row = await rig.events(), await rig.reread()
    assert (row.status, row.content) == ("complete", "before after")
    assert kinds(log)[0] == "Reset"
    assert text_of(log) == row.content
    sources = [event.value for event in log if isinstance(event, events.PartEvent)]
    assert sources == [{"type": "source", "url": "https://x"}]


async def test_redis_restarted_empty_while_the_provider_is_silent(rig: Rig) -> None:
    """Nothing is appended: the renewal of the lease notices, and readers of the new log get the
    text.
    """

    async def lose() -> None:
        await rig.said()
        rig.log.restart(lose_data=True)
        await rig.said()

    async with asyncio.timeout(30):
        await rig.run([base.TextDelta("before ")], lose, [base.TextDelta("after")], DONE)
    assert kinds(await rig.events())[:2] == ["Reset", "Chunk"]
    assert (await rig.reread()).content == "before after"


async def test_redis_restarted_empty_before_the_terminal_event(rig: Rig) -> None:
    """The row is committed, the log forgot the claim: the new log gets the text, then the terminal
    event that attests it.
    """
    finish = rig.store.finish

    async def finish_then_lose(ending: Any) -> bool:
        done = await finish(ending)
        rig.log.restart(lose_data=True)
        return done

    rig.store.finish = finish_then_lose  # type: ignore[method-assign]
    await rig.run([base.TextDelta("a"), *DONE])
    assert kinds(await rig.events()) == ["Reset", "Chunk", "Complete"]
    assert text_of(await rig.events()) == "a"
    assert (await rig.reread()).terminal_announced


async def test_a_provider_does_not_run_far_ahead_of_the_log(rig: Rig) -> None:
    """While the log accepts nothing, reading stops at a limit; later all of it arrives."""
    append, open_again, taken = rig.log.append, asyncio.Event(), 0

    async def closed(claim: Any, index: int, covered: int, batch: Any) -> Any:
        await open_again.wait()
        return await append(claim, index, covered, batch)

    async def count() -> None:
        nonlocal taken
        taken += 1

    rig.log.append = closed  # type: ignore[method-assign]
    size, pieces = MAX_UNACKNOWLEDGED_CHARS // 4, 20
    attempt = await rig.attempt()
    script = Script(
        [step for _ in range(pieces) for step in ([base.TextDelta("x" * size)], count)] + [DONE]
    )
    running = asyncio.create_task(
        attempt.run(script, base.Request([base.HistoryMessage("user", "hi")]), "m")
    )
    while attempt.draft.pending_chars <= MAX_UNACKNOWLEDGED_CHARS:
        await asyncio.sleep(0)
    for _ in range(200):  # long enough for all the rest
        await asyncio.sleep(0)
    assert taken == 4
    open_again.set()
    async with asyncio.timeout(30):
        await running
    assert (await rig.reread()).content == "x" * size * pieces


async def test_a_late_checkpoint_of_a_lost_epoch(rig: Rig) -> None:
    """Its seq means nothing in the new log: the floor there must not rise, or a reader's snapshot
    would skip events.
    """
    attempt = await rig.attempt(held=held_of("ab", seq=5, message_id=rig.row.id))
    before = attempt.checkpoint()
    writer = attempt.work.writer
    writer.claim = replace(rig.claim, epoch="another")
    attempt.saved(before)
    assert writer._covered == 0
    attempt.saved(replace(before, epoch="another"))
    assert writer._covered == 5


async def test_the_covered_seq_of_a_lost_log_does_not_apply_to_the_next(rig: Rig) -> None:
    """The new log begins at 1: trimmed up to the old seq, it would lose events that no row
    holds.
    """
    append, covered = rig.log.append, list[int]()
    attempt = await rig.attempt()

    async def note(claim: Any, index: int, covers: int, batch: Any) -> Any:
        if claim.epoch != rig.claim.epoch:
            covered.append(covers)
        return await append(claim, index, covers, batch)

    async def lose() -> None:
        await rig.said()
        attempt.saved(attempt.checkpoint())
        rig.log.restart(lose_data=True)

    rig.log.append = note  # type: ignore[method-assign]
    script = Script([[base.TextDelta("before ")], lose, [base.TextDelta("after")], DONE])
    await attempt.run(script, base.Request([base.HistoryMessage("user", "hi")]), "m")
    assert covered[0] == 0
    assert (await rig.reread()).content == "before after"


async def test_each_wait_for_room_is_for_new_room(rig: Rig) -> None:
    """Earlier room does not allow the attempt to run ahead later."""
    writer = (await rig.attempt()).work.writer
    writer.give_way()
    waiting = asyncio.create_task(writer.room())
    for _ in range(10):  # long enough to find the old room
        await asyncio.sleep(0)
    assert not waiting.done()
    writer.give_way()
    await waiting


async def test_a_log_that_a_bug_makes_unwritable(rig: Rig) -> None:
    """The answer ends in an error instead of hanging; the visible text stays."""
    append = rig.log.append

    async def broken(claim: Any, index: int, covered: int, batch: Any) -> Any:
        if index == 1:
            raise TypeError("bug")
        return await append(claim, index, covered, batch)

    rig.log.append = broken  # type: ignore[method-assign]
    with pytest.raises(TypeError):
        await rig.run([base.TextDelta("a")], asyncio.Event().wait)
    row = await rig.reread()
    assert row.status == "error"


async def test_a_retry_does_not_wait_for_an_unwritable_log(rig: Rig) -> None:
    """The provider fails at the same moment as our log: the next attempt is due, and only its
    announcement is missing.
    """
    attempt = await rig.attempt()

    async def broken(claim: Any, index: int, covered: int, batch: Any) -> Any:
        while attempt._intake is None or not attempt._intake.over:
            await asyncio.sleep(0)
        raise TypeError("bug")

    rig.log.append = broken  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        await attempt.run(
            Script([base.RateLimited("later", code="429")]),
            base.Request([base.HistoryMessage("user", "hi")]),
            "m",
        )
    row = await rig.reread()
    assert row.status == "retrying"


async def test_a_log_that_breaks_after_the_end_of_the_stream(rig: Rig) -> None:
    """The end of the text cannot be appended, so the answer is not complete."""
    attempt, append = await rig.attempt(), rig.log.append

    async def broken(claim: Any, index: int, covered: int, batch: Any) -> Any:
        if index == 2:
            while attempt._intake is None or not attempt._intake.over:
                await asyncio.sleep(0)
            raise TypeError("bug")
        return await append(claim, index, covered, batch)

    async def seen() -> None:
        await rig.said()

    rig.log.append = broken  # type: ignore[method-assign]
    with pytest.raises(TypeError):
        await attempt.run(
            Script([[base.TextDelta("seen")], seen, [base.TextDelta(" unseen"), *DONE]]),
            base.Request([base.HistoryMessage("user", "hi")]),
            "m",
        )
    row = await rig.reread()
    assert (row.status, row.content) == ("error", "seen")


async def test_the_name_of_a_run_is_saved_before_anything_comes(rig: Rig) -> None:
    """A worker that dies while the provider is silent leaves a run that can be attached to."""
    names: list[str | None] = []

    async def note() -> None:
        names.append((await rig.reread()).run_id)

    attempt = await rig.attempt(best_rung="attach")
    script = Script([note, [base.TextDelta("a"), *DONE]], run_id="run-1")
    await attempt.run(script, base.Request([base.HistoryMessage("user", "hi")]), "m")
    assert names == ["run-1"]


async def test_a_run_has_no_place_within_an_item_of_its_provider(rig: Rig) -> None:
    """What came since the last place comes again to whoever attaches."""
    places: list[tuple[int | None, int]] = []
    attempt = await rig.attempt(best_rung="attach")
    script = Script([], run_id="run-1")

    def within(item: bool) -> Any:
        async def note() -> None:
            await attempt.work.writer.settle()
            run = attempt.draft.run
            assert run is not None
            places.append((run.cursor, run.text))
            script.midway = item

        return note

    script.steps = [
        [base.TextDelta("one ")],
        within(True),
        [base.TextDelta("two ")],
        within(False),
        [base.TextDelta("three")],
        within(False),
        DONE,
    ]
    await attempt.run(script, base.Request([base.HistoryMessage("user", "hi")]), "m")
    assert places == [(1, 4), (1, 4), (3, 13)]
