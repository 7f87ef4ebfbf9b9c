"""Takeovers: the answer of a dead worker continues as its model can, and ends after enough
deaths.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.sweeper.rig import DONE, Rig
from tests.integration.worker_rig import Script, events_of, kinds, runner_over, text_of
from tokenwire.models.conversations import Post
from tokenwire.providers import base
from tokenwire.providers.spec import Rung
from tokenwire.streams.log.ports import LogUnavailable
from tokenwire.worker.asking import MAX_ATTEMPTS
from tokenwire.worker.deaths import MAX_DEATHS
from tokenwire.worker.enqueue import JobsUnavailable
from tokenwire.worker.retries import MAX_TRIES, WorkersDied


async def test_a_dead_attempt_is_taken_over(rig: Rig) -> None:
    """Appended text stays, whether it was in a checkpoint or not; the model continues after it, and
    nothing is repeated.
    """
    await rig.die("", "So far")
    await rig.sweeper.sweep()
    assert rig.jobs.sent == [(rig.row.id, None)]
    script = Script([[base.TextDelta(", so good."), *DONE]])
    await runner_over(rig.services, script, continuation="prefix").generate(rig.row.id)
    log, row = await events_of(rig.log, rig.row), await rig.reread()
    assert (row.status, row.content, row.attempt, row.seams) == (
        "complete",
        "So far, so good.",
        2,
        [6],
    )
    assert text_of(log) == row.content
    assert "Reset" not in kinds(log)
    assert script.asked[0].continuation == base.Continuation("prefix", "So far")


async def test_a_model_that_cannot_continue_starts_over(rig: Rig) -> None:
    """Readers get the reset before any new text."""
    await rig.die("", "So far")
    await runner_over(
        rig.services, Script([[base.TextDelta("Anew."), *DONE]]), continuation="restart"
    ).generate(rig.row.id)
    log, row = await events_of(rig.log, rig.row), await rig.reread()
    assert kinds(log) == ["Chunk", "Reset", "Start", "Chunk", "Complete"]
    assert row.content == "Anew."


async def test_an_answer_that_must_not_start_over_keeps_its_text(rig: Rig) -> None:
    """Neither a second beginning nor a reset: the answer ends as interrupted, without a request."""
    await rig.die("", "Half")
    script = Script([[base.TextDelta("Half and half"), *DONE]])
    await runner_over(rig.services, script, continuation="none").generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.content, script.asked) == ("error", "Half", [])
    assert row.error is not None
    assert row.error["code"] == "interrupted"


async def test_answers_of_a_dead_worker_are_taken_over_together(rig: Rig) -> None:
    """A slow queue costs its time once, not once per row; one failing row blocks no other."""
    asked, all_asked = 0, asyncio.Event()

    async def together(message_id: str, delay_ms: int | None = None) -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            all_asked.set()
        await all_asked.wait()
        if message_id == rig.row.id:
            raise JobsUnavailable("not this one")
        rig.jobs.sent.append((message_id, delay_ms))

    rig.jobs.generate = together  # type: ignore[method-assign]
    others = []
    for _ in range(2):
        conversation = await rig.store.create_conversation("me")
        others.append(
            (await rig.store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message.id
        )
    await rig.age()
    with pytest.raises(JobsUnavailable):
        async with asyncio.timeout(10):
            await rig.sweeper.sweep()
    assert sorted(rig.jobs.sent) == sorted((other, None) for other in others)
    for other in others:  # otherwise the next rounds would send them again
        row = await rig.store.message(other)
        assert row is not None
        assert row.enqueued_at is not None


async def test_a_live_lease_is_respected(rig: Rig) -> None:
    """Silence does not mean death."""
    await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 60)
    assert await rig.store.begin_attempt(rig.row.id, 1, "m")
    await rig.age()
    await rig.sweeper.sweep()
    assert rig.jobs.sent == []


async def die_asking(rig: Rig, continuation: Rung = "prefix") -> None:
    """A worker is killed after its request and before the first word."""
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(
        runner_over(rig.services, Script([hang]), continuation=continuation).generate(rig.row.id)
    )
    await begun.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await rig.expire()


async def test_a_death_is_no_try(rig: Rig) -> None:
    """After more deaths than an answer has tries, the next attempt answers and still has all its
    tries.
    """
    for _ in range(MAX_TRIES + 1):
        await die_asking(rig)
    await runner_over(rig.services, Script([base.Unavailable("once")])).generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.tries, row.deaths) == ("retrying", 1, MAX_TRIES + 1)
    await rig.age(due_at=1)
    await runner_over(rig.services, Script([[base.TextDelta("At last."), *DONE]])).generate(
        rig.row.id
    )
    row = await rig.reread()
    assert (row.status, row.content, row.tries, row.deaths) == (
        "complete",
        "At last.",
        1,
        MAX_TRIES + 1,
    )


@pytest.mark.parametrize("continuation", ["prefix", "restart"])
async def test_too_many_deaths_without_progress_end_in_an_error(
    rig: Rig, continuation: Rung
) -> None:
    """A deadly message does not kill workers for ever: the last attempt makes no request and keeps
    the visible text.
    """
    told: list[Mapping[str, object]] = []
    rig.services = replace(rig.services, notify_operators=lambda _error, facts: told.append(facts))
    await rig.die("", "So far.")
    for _ in range(MAX_DEATHS - 1):
        await die_asking(rig)
    script = Script([[base.TextDelta("never asked"), *DONE]])
    with pytest.raises(WorkersDied):  # the job becomes a dead letter
        await runner_over(rig.services, script, continuation=continuation).generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, (row.error or {})["code"], row.content) == (
        "error",
        "internal_error",
        "So far.",
    )
    assert (row.attempt, row.tries, row.deaths, script.asked) == (MAX_DEATHS + 1, 0, MAX_DEATHS, [])
    assert [facts["message_id"] for facts in told] == [row.id]
    assert kinds(await events_of(rig.log, rig.row))[-1] == "Error"


async def deliver_and_die(rig: Rig, began: asyncio.Event) -> bool:
    """One delivery of the job; whether its worker died where it set `began`."""
    began.clear()
    runner = runner_over(
        rig.services, Script([[base.TextDelta("never asked"), *DONE]]), continuation="prefix"
    )
    job, waits = asyncio.create_task(runner.generate(rig.row.id)), asyncio.create_task(began.wait())
    await asyncio.wait((job, waits), return_when=asyncio.FIRST_COMPLETED, timeout=20)
    waits.cancel()
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    return began.is_set()


@pytest.mark.parametrize(
    "deadly", ["tokenwire.worker.runner.recover", "tokenwire.worker.resume.takeover._read_log"]
)
async def test_deaths_before_an_attempt_begins_end_in_an_error(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, deadly: str
) -> None:
    """The log may kill its readers: a worker that continues, or even one that ends the answer. The
    available text is kept.
    """
    told: list[Mapping[str, object]] = []
    rig.services = replace(rig.services, notify_operators=lambda _error, facts: told.append(facts))
    began = asyncio.Event()

    async def kill(*_arguments: object) -> None:
        began.set()
        await asyncio.Event().wait()

    await rig.die("", "So far.")
    monkeypatch.setattr(deadly, kill)
    deaths = 0
    while await deliver_and_die(rig, began):
        deaths += 1
        assert deaths <= MAX_DEATHS + 1
    row, ends_too = await rig.reread(), deadly != "tokenwire.worker.runner.recover"
    assert deaths == MAX_DEATHS + ends_too
    assert (row.status, (row.error or {})["code"], row.content) == (
        "error",
        "internal_error",
        "" if ends_too else "So far.",
    )
    assert [facts["message_id"] for facts in told] == [row.id] * (1 + ends_too)
    await rig.sweeper.sweep()
    assert kinds(await events_of(rig.log, rig.row))[-1] == "Error"


async def test_an_outage_is_no_death(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that waits for Redis is alive, however often it tries."""
    monkeypatch.setattr("tokenwire.worker.runner.JOB_RETRY_SECONDS", 0)
    away, read = iter(range(MAX_DEATHS + 2)), rig.log.read

    async def flaky(*arguments: Any) -> Any:
        if next(away, None) is not None:
            raise LogUnavailable("away")
        return await read(*arguments)

    rig.log.read = flaky  # type: ignore[method-assign]
    await runner_over(rig.services, Script([[base.TextDelta("There."), *DONE]])).generate(
        rig.row.id
    )
    row = await rig.reread()
    assert (row.status, row.content, row.deaths) == ("complete", "There.", 0)


@pytest.mark.parametrize(
    ("added", "status", "deaths"), [(100, "complete", 0), (99, "error", MAX_DEATHS)]
)
async def test_deaths_after_progress_are_free(
    rig: Rig, added: int, status: str, deaths: int
) -> None:
    """Progress resets the count; a few words are no progress."""
    await rig.age(deaths=MAX_DEATHS - 1)
    await rig.die("", "x" * added)
    with contextlib.suppress(WorkersDied):
        await runner_over(
            rig.services, Script([[base.TextDelta("."), *DONE]]), continuation="prefix"
        ).generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.deaths, row.tries) == (status, deaths, 0)


async def test_dropped_text_is_no_progress(rig: Rig) -> None:
    """A model that starts over has made none when its worker dies, however much it wrote."""
    await rig.die("", "x" * 1000)
    await runner_over(
        rig.services, Script([[base.TextDelta("."), *DONE]]), continuation="restart"
    ).generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.content, row.deaths) == ("complete", ".", 1)


async def test_the_number_of_attempts_is_bounded(rig: Rig) -> None:
    """Whatever progress they make."""
    await rig.die("", "x" * 1000)
    await rig.age(attempt=MAX_ATTEMPTS)
    script = Script([[base.TextDelta("never asked"), *DONE]])
    await runner_over(rig.services, script, continuation="prefix").generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, (row.error or {})["code"], row.content, script.asked) == (
        "error",
        "budget_exhausted",
        "x" * 1000,
        [],
    )


async def test_a_running_provider_is_attached_to(rig: Rig) -> None:
    """The run continues after the saved cursor; text beyond the checkpoint is not repeated; no seam
    is left.
    """
    script = Script(
        [[base.TextDelta("One ")], [base.TextDelta("two ")], [base.TextDelta("three"), *DONE]],
        run_id="run-1",
    )
    await rig.die(
        "", "One two"
    )  # the log holds half of the second batch; the checkpoint below holds the first
    await rig.age(
        content="One ",
        epoch=(await rig.log.read(rig.row.conversation_id, None, 0, 0)).epoch,
        run_id="run-1",
        run_cursor=1,
    )
    async with rig.store.writing() as session:
        await session.execute(text("UPDATE messages SET seq = 0"))
    await runner_over(rig.services, script, continuation="attach").generate(rig.row.id)
    log, row = await events_of(rig.log, rig.row), await rig.reread()
    assert script.asked[0].continuation == base.Continuation("attach", "One two", "run-1", 1)
    assert (row.content, row.status, row.seams) == ("One two three", "complete", [])
    assert text_of(log) == row.content


async def test_a_run_that_is_gone_is_not_attached_to_twice(rig: Rig) -> None:
    """The next attempt continues by an extra turn."""
    await rig.die("", "One")
    await rig.age(run_id="run-1", run_cursor=0)
    await runner_over(
        rig.services, Script([base.Unavailable("gone", code="run_gone")]), continuation="attach"
    ).generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.run_id, row.content) == ("retrying", None, "One")
    await rig.age(due_at=1)
    script = Script([[base.TextDelta(" two"), *DONE]])
    await runner_over(rig.services, script, continuation="attach").generate(rig.row.id)
    assert script.asked[0].continuation == base.Continuation("turn", "One")
    assert (await rig.reread()).content == "One two"
