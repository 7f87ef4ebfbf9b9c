"""The sweeper's ends: not announced ones, ignored cancels, and answers that cannot be recovered."""

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.integration.sweeper.rig import DONE, Rig
from tests.integration.worker_rig import Script, events_of, kinds, runner_over, text_of
from tokenwire.models.answers import Ending
from tokenwire.models.conversations import Post
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.streams.log.ports import UNHEARD_SECONDS, Claim, Limits
from tokenwire.worker import closing
from tokenwire.worker.deaths import MAX_FAILED_STARTS


async def test_an_unannounced_end(rig: Rig) -> None:
    """A worker died between commit and append: the terminal event is supplied once and matches the
    row.
    """
    await rig.die("", "All")
    row = await rig.reread()
    epoch = (await rig.log.read(row.conversation_id, None, 0, 0)).epoch
    ending = Ending(row.id, row.attempt, "complete", "All", "", epoch, 1, "stop")
    assert await rig.store.finish(ending)
    await rig.age()
    await rig.sweeper.sweep()
    await rig.sweeper.sweep()
    log = await events_of(rig.log, rig.row)
    assert kinds(log) == ["Chunk", "Complete"]
    assert isinstance(log[-1], events.Complete)
    assert log[-1].length == 3
    assert (await rig.reread()).terminal_announced
    await rig.store.announce_again("ends", [row.id])  # as after a start of Redis
    with capture_logs() as said:
        await rig.sweeper.sweep()
    assert (await rig.reread()).terminal_announced
    assert "swept: end announced" not in [line["event"] for line in said]


async def test_an_unannounced_end_in_a_new_log(rig: Rig) -> None:
    """Redis lost its data between commit and append: the new log gets the text, then the terminal
    event that attests it.
    """
    await rig.die("", "All")
    row = await rig.reread()
    epoch = (await rig.log.read(row.conversation_id, None, 0, 0)).epoch
    assert await rig.store.finish(
        Ending(row.id, row.attempt, "complete", "All", "", epoch, 1, "stop")
    )
    rig.log.restart(lose_data=True)
    await rig.age()
    await rig.sweeper.sweep()
    log = await events_of(rig.log, rig.row)
    assert kinds(log) == ["Reset", "Chunk", "Complete"]
    assert text_of(log) == "All"


@pytest.mark.parametrize("how", ["announced", "cancelled"])
async def test_the_successor_of_a_dead_answer_is_started(rig: Rig, how: str) -> None:
    """The end enqueues the next in line, as the worker would have done."""
    behind = (
        await rig.store.post(Post(rig.row.conversation_id, "me", "and?", "m"))
    ).assistant_message
    await rig.die("", "All")
    row = await rig.reread()
    if how == "announced":
        epoch = (await rig.log.read(row.conversation_id, None, 0, 0)).epoch
        assert await rig.store.finish(
            Ending(row.id, row.attempt, "complete", "All", "", epoch, 1, "stop")
        )
    else:
        await rig.store.request_cancel(row.id, "me")
    await rig.store.mark_enqueued(behind.id)  # too recent for the sweeper to find
    async with rig.store.writing() as session:
        await session.execute(
            text("UPDATE messages SET updated_at = updated_at - 60000 WHERE id = :id"),
            {"id": row.id},
        )
    await rig.sweeper.sweep()
    assert rig.jobs.sent == [(behind.id, None)]


async def test_a_cancel_of_a_dead_attempt(rig: Rig) -> None:
    """Nobody runs it: the sweeper ends it with the visible text."""
    await rig.die("", "Seen")
    await rig.store.request_cancel(rig.row.id, "me")
    await rig.sweeper.sweep()
    row = await rig.reread()
    assert (row.status, row.content, row.cancel_by) == ("cancelled", "Seen", "me")
    assert kinds(await events_of(rig.log, rig.row))[-1] == "Cancelled"


@pytest.mark.parametrize(
    "sent",
    [
        {"response_schema": {"x": "y" * 400}},
        {"parts_kept": [{"part": 0, "dialect": "d", "kind": "k", "value": {"x": "y" * 400}}]},
    ],
)
async def test_an_estimate_counts_all_that_was_sent(rig: Rig, sent: dict[str, Any]) -> None:
    """The schema of the answer, and the other fields of earlier rows as they are sent."""
    await rig.die("", "Seen")
    await rig.age(model="m", **{name: json.dumps(value) for name, value in sent.items()})
    await rig.store.request_cancel(rig.row.id, "me")
    await rig.sweeper.sweep()
    value = sent["parts_kept"][0]["value"] if "parts_kept" in sent else sent["response_schema"]
    assert (await rig.reread()).usage == {
        "input_tokens": -(-(len("hi") + len(json.dumps(value))) // 4),
        "output_tokens": 1,
        "estimated": True,
    }


@pytest.mark.parametrize(("proven", "output"), [(0, 2), (1, 1)])
async def test_turns_that_are_whole_have_reported(rig: Rig, proven: int, output: int) -> None:
    """Only what is behind them is estimated."""
    await rig.die("", "Seen")
    reported = {"before": {"input_tokens": 10, "output_tokens": 1}, "now": {}}
    await rig.age(model="m", reported=json.dumps(reported), proven_parts=proven)
    await rig.store.request_cancel(rig.row.id, "me")
    await rig.sweeper.sweep()
    usage = {"input_tokens": 10 + 1, "output_tokens": output, "estimated": True}
    assert (await rig.reread()).usage == usage


async def test_a_cancel_while_the_worker_is_frozen(rig: Rig) -> None:
    """Only the sweeper follows it up: it takes the answer despite the lease after the worker's time
    to obey.
    """
    claim = await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 60)
    assert await rig.store.begin_attempt(rig.row.id, 1, "m")
    await rig.log.append(claim, 0, 0, [events.Chunk(rig.row.id, 1, 0, "Seen", 0)])
    await rig.store.request_cancel(rig.row.id, "me")
    await rig.sweeper.sweep()
    assert (await rig.reread()).status == "streaming"
    now = rig.log._clock
    rig.log._clock = lambda: now() + UNHEARD_SECONDS
    await rig.sweeper.sweep()
    row = await rig.reread()
    assert (row.status, row.content, row.cancel_by) == ("cancelled", "Seen", "me")
    end = (await events_of(rig.log, rig.row))[-1]
    assert isinstance(end, events.Cancelled)
    assert end.usage == events.Usage(1, 1, estimated=True)  # as the worker itself would report
    assert row.usage is not None
    assert row.usage["estimated"]


async def lose_the_middle(rig: Rig) -> None:
    """SQL is set back behind the log's beginning: between its text and the log's is a hole."""
    rig.log._limits = Limits(max_events=4)
    claim = await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 0.0)
    assert await rig.store.begin_attempt(rig.row.id, claim.attempt, "m")
    for index in range(20):
        await rig.log.append(
            claim, index, index, [events.Chunk(rig.row.id, claim.attempt, index, "x", 0)]
        )
    await rig.age(content="", seq=0, epoch=claim.epoch)


async def newest(rig: Rig) -> list[events.AnyEvent]:
    """The rest of a trimmed log."""
    page = await rig.log.read(rig.row.conversation_id, None, 0, 0)
    page = await rig.log.read(rig.row.conversation_id, None, page.oldest - 1, 100)
    return [
        event
        for _, event in map(events.decode, (entry.data for entry in page.entries))
        if event is not None
    ]


async def attempt(rig: Rig) -> None:
    """One delivery of the job as Dramatiq does it: an escaping exception is a dead letter."""
    with contextlib.suppress(ValueError):
        await runner_over(
            rig.services, Script([[base.TextDelta("."), *DONE]]), continuation="prefix"
        ).generate(rig.row.id)


async def test_an_answer_that_cannot_be_recovered_ends(rig: Rig) -> None:
    """After some tries, with an internal error and the row's text. Operators are notified once;
    readers and row agree.
    """
    told: list[BaseException] = []
    rig.services = replace(rig.services, notify_operators=lambda error, _facts: told.append(error))
    await lose_the_middle(rig)
    tries = 0
    while (await rig.reread()).status != "error":
        await attempt(rig)
        await rig.age()
        tries += 1
        assert tries <= MAX_FAILED_STARTS
    row, log = await rig.reread(), await newest(rig)
    assert (row.status, (row.error or {})["code"], tries) == (
        "error",
        "internal_error",
        MAX_FAILED_STARTS,
    )
    assert [str(error)[:6] for error in told] == ["0 unit"]
    assert isinstance(log[-1], events.Error)
    assert (log[-1].length, kinds(log)[-2]) == (len(row.content), "Reset")


async def test_an_unrecoverable_answer_can_be_cancelled(rig: Rig) -> None:
    """At once, since no continuation is needed."""
    await lose_the_middle(rig)
    await rig.store.request_cancel(rig.row.id, "me")
    await rig.sweeper.sweep()
    row, log = await rig.reread(), await newest(rig)
    assert (row.status, row.cancel_by, kinds(log)[-2:]) == (
        "cancelled",
        "me",
        ["Reset", "Cancelled"],
    )


async def test_attempts_with_progress_do_not_count(rig: Rig) -> None:
    """Hand-overs, retries and deaths are counted elsewhere."""
    for _ in range(MAX_FAILED_STARTS + 3):
        await rig.die("", "")
        await rig.age(tries=0)
        runner = runner_over(
            rig.services, Script([base.Interrupted("cut")]), continuation="restart"
        )
        await runner.generate(rig.row.id)
        await rig.age(tries=0, due_at=1)
    assert (await rig.reread()).starts <= 2


async def test_an_unreadable_log_ends_the_answer_in_the_rows(rig: Rig) -> None:
    """For example a bug in a script: after some tries the conversation is free again."""

    async def broken(*_arguments: object) -> Claim:
        raise ValueError("a bug")

    rig.log.claim = broken  # type: ignore[method-assign]
    for _ in range(MAX_FAILED_STARTS):
        await attempt(rig)
        assert (await rig.reread()).status == "queued"
    await attempt(rig)
    assert (await rig.reread()).status == "error"


async def test_an_answer_that_ended_in_the_rows_is_free(rig: Rig) -> None:
    """Its end is announced without waiting for the lease of the failed attempt."""

    async def broken(*_arguments: object, **_options: object) -> Any:
        raise ValueError("a bug")

    rig.log.read = rig.log.adopt = broken  # type: ignore[method-assign]
    row = await rig.reread()
    await closing.end_cancelled(rig.store, rig.log, row, "me")  # type: ignore[arg-type]
    row = await rig.reread()
    assert (row.status, row.cancel_by) == ("cancelled", "me")
    assert not await rig.log.leased(row.conversation_id, row.id)
