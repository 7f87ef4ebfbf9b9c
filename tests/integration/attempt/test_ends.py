"""worker.attempt.run: complete answers and failures of every kind, with the log, row and jobs that
they leave.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.attempt.rig import DONE, Clock, Rig
from tests.integration.worker_rig import NoJobs, Script, kinds, services_over, text_of
from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.conversations import Post
from tokenwire.models.errors import StatementFailed, StoreError, Unstorable
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.text import checksum
from tokenwire.providers import base
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.attempt.intake import STALL_GRACE_SECONDS
from tokenwire.worker.attempt.lifecycle import HandedOver
from tokenwire.worker.attempt.run import Attempt
from tokenwire.worker.attempt.work import AttemptWork


async def test_a_complete_answer(rig: Rig) -> None:
    """start, chunks, one complete; the row equals the stream, and the checksum proves it."""
    script = await rig.run([base.TextDelta("Hé")], [base.TextDelta("llo 😀")], DONE)
    log, row = await rig.events(), await rig.reread()
    assert kinds(log)[0] == "Start"
    assert (row.status, row.content, row.finish_reason, row.terminal_announced) == (
        "complete",
        "Héllo 😀",
        "stop",
        True,
    )
    assert text_of(log) == row.content
    end = log[-1]
    assert isinstance(end, events.Complete)
    assert (end.length, end.crc32, end.usage) == (8, checksum(row.content), events.Usage(3, 2))
    assert row.seq == len(log) - 1
    assert script.closed
    assert rig.jobs.sent == []


async def test_a_stream_without_proof_is_not_complete(rig: Rig) -> None:
    """An end without a finish is an interruption, whatever text came before."""
    await rig.run([base.TextDelta("half")])
    log, row = await rig.events(), await rig.reread()
    assert (row.status, row.content, row.tries) == ("retrying", "half", 1)
    assert kinds(log)[-1] == "Retry"
    assert rig.jobs.sent[0][0] == rig.row.id
    assert rig.jobs.sent[0][1] == log[-1].delay_ms  # type: ignore[union-attr]


async def test_a_final_error_has_a_readable_sentence(rig: Rig) -> None:
    """The provider's own words stay in the operator's log."""
    await rig.run(base.AuthenticationFailed("bad key sk-123", status=401))
    row = await rig.reread()
    assert row.status == "error"
    assert row.error is not None
    assert row.error["code"] == "authentication_failed"
    assert "sk-123" not in str(await rig.events())
    assert kinds(await rig.events())[-1] == "Error"


async def test_three_tries_without_progress_end_in_an_error(rig: Rig) -> None:
    """The third failure is the last; each try is a new attempt."""
    for _ in range(3):
        await rig.run(base.Unavailable("down"))
    log, row = await rig.events(), await rig.reread()
    assert [kind for kind in kinds(log) if kind != "Start"] == ["Retry", "Retry", "Error"]
    assert (row.status, row.attempt) == ("error", 3)
    assert len(rig.jobs.sent) == 2


async def test_a_bug_is_reported_and_ends_the_answer(rig: Rig) -> None:
    """The job fails (dead letter), the reader gets the error, and nothing hangs."""
    with pytest.raises(KeyError):
        await rig.run([base.TextDelta("a")], KeyError("bug"))
    row = await rig.reread()
    assert (row.status, row.content) == ("error", "a")
    assert row.error is not None
    assert row.error["code"] == "internal_error"


async def test_a_stall_is_an_interruption(rig: Rig, clock: Clock) -> None:
    """Without anything new for the model's limit, the attempt ends, whether bytes arrive or not."""

    async def stall() -> None:
        await rig.said()
        clock.now += 60
        await asyncio.Event().wait()

    script = Script([[base.TextDelta("a")], stall], stall_seconds=60 - STALL_GRACE_SECONDS - 1)
    await (await rig.attempt()).run(script, base.Request([base.HistoryMessage("user", "hi")]), "m")
    row = await rig.reread()
    assert (row.status, row.content) == ("retrying", "a")
    assert script.closed


async def test_half_a_character_of_a_broken_stream_is_not_shown(rig: Rig) -> None:
    """The next attempt sends the whole character; a replacement character would stay for good."""
    await rig.run([base.TextDelta("a\ud83d")], base.Interrupted("cut"))
    assert (await rig.reread()).content == "a"


async def test_the_next_in_line_is_started(rig: Rig) -> None:
    """A post that waited behind this answer starts when it ends."""
    second = await rig.store.post(Post(rig.row.conversation_id, "me", "and?", "m"))
    await rig.run([base.TextDelta("a"), *DONE])
    assert rig.jobs.sent == [(second.assistant_message.id, None)]


async def test_values_that_only_one_database_accepts(database_url: str) -> None:
    """An endless run name, numbers outside JSON, half characters: the answer is complete on both,
    and its log says the same.
    """
    log = MemoryLog()
    async with aclosing(Store.open(database_url)) as store:
        conversation = await store.create_conversation("me")
        posted = await store.post(Post(conversation.id, "me", "hi", "m"))
        rig = Rig(
            store, log, NoJobs(), services_over(store, log, NoJobs()), posted.assistant_message
        )
        call = [
            base.ToolCallStart(0, "c\0", "f\ud83d"),
            base.ToolCallArguments(0, '{"x": NaN, "y": [1e999]}'),
            base.ToolCallEnd(0),
        ]
        script = Script(
            [[base.TextDelta("So.")], call, [base.SourceDelta("http://x\0")], DONE],
            run_id="r" * 300,
        )
        await (await rig.attempt()).run(
            script, base.Request([base.HistoryMessage("user", "hi")]), "m"
        )
        row = await rig.reread()
    assert (row.status, row.content, row.run_id) == ("complete", "So.", None)
    # NaN is no JSON: such a call cannot be executed and stays the text that the model wrote.
    wrote = '{"x": NaN, "y": [1e999]}'
    named = {"id": "c\ufffd", "name": "f\ufffd", "state": "invalid"}
    assert row.parts == [
        {"type": "text", "length": 3},
        {"type": "tool_call", **named, "length": len(wrote), "input": wrote},
        {"type": "source", "address": "http://x\ufffd"},
    ]
    reader = Answer(row.id)
    for event in await rig.events():
        reader.apply(event)
    assert (reader.status, reader.layout()) == ("complete", row.parts)


@pytest.mark.parametrize(
    "error", [Unstorable("22P02"), StatementFailed("54000")], ids=["a value", "a limit of the row"]
)
@pytest.mark.parametrize("asked_to_stop", [False, True])
async def test_an_end_that_the_database_refuses(
    rig: Rig, asked_to_stop: bool, error: StoreError
) -> None:
    """The visible text is kept, without the refused values. The answer is then not complete, and
    operators are notified.
    """
    told: list[BaseException] = []
    rig.services = replace(rig.services, notify_operators=lambda error, _facts: told.append(error))
    finish = rig.store._finish

    async def refuse(ending: Ending) -> bool:
        if ending.parts is not None:
            raise error
        return await finish(ending)

    rig.store._finish = refuse  # type: ignore[method-assign]
    call = [base.ToolCallStart(0, "c", "f"), base.ToolCallEnd(0)]

    async def stop() -> None:
        if asked_to_stop:
            await rig.log.request_cancel(rig.row.conversation_id, rig.row.id, "me")
            await asyncio.Event().wait()

    await rig.run([base.TextDelta("Seen.")], call, stop, DONE)
    row, last = await rig.reread(), (await rig.events())[-1]
    assert (row.content, row.parts) == ("Seen.", None)
    if asked_to_stop:
        assert (row.status, isinstance(last, events.Cancelled)) == ("cancelled", True)
    else:
        assert (row.status, (row.error or {})["code"], isinstance(last, events.Error)) == (
            "error",
            "internal_error",
            True,
        )
        assert told == [error]


async def left_by(way: str, rig: Rig, attempt: Attempt) -> Row:
    """The row after an attempt that wrote "So far." and then handed the answer over."""

    async def leave() -> None:
        await rig.said()
        if way == "retry":
            raise base.Interrupted("cut")
        attempt.stop(HandedOver())
        await asyncio.Event().wait()

    await attempt.run(
        Script([[base.TextDelta("So far.")], leave]),
        base.Request([base.HistoryMessage("user", "hi")]),
        "m",
    )
    return await rig.reread()


@pytest.mark.parametrize("refused", ["the run", "what is beside the text"])
@pytest.mark.parametrize("way", ["retry", "hand-over"])
async def test_a_last_save_that_the_database_refuses(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, way: str, refused: str
) -> None:
    """What fits is saved, another attempt continues, and operators are notified."""
    told: list[BaseException] = []
    rig.services = replace(rig.services, notify_operators=lambda error, _facts: told.append(error))
    attempt = await rig.attempt()
    take = AttemptWork.checkpoint
    poison: dict[str, Any] = (
        {"run_id": "run", "run_cursor": 2**70}
        if refused == "the run"
        else {"reported": {"a": object()}, "run_id": "run"}
    )
    monkeypatch.setattr(AttemptWork, "checkpoint", lambda work: replace(take(work), **poison))

    row = await left_by(way, rig, attempt)
    assert (row.status, row.content, row.run_id) == (
        "retrying" if way == "retry" else "queued",
        "So far.",
        None,
    )
    assert [type(error) for error in told] == [Unstorable] * (1 if refused == "the run" else 2)
    assert [message_id for message_id, _ in rig.jobs.sent] == [row.id]


@pytest.mark.parametrize("way", ["retry", "hand-over"])
async def test_a_last_save_that_exceeds_a_limit_of_its_row(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """For example a row too large for PostgreSQL: it is saved without optional values, as if they
    could not be stored.
    """
    told: list[BaseException] = []
    rig.services = replace(rig.services, notify_operators=lambda error, _facts: told.append(error))
    attempt = await rig.attempt()
    take, checkpoint, hand_back = AttemptWork.checkpoint, rig.store.checkpoint, rig.store.hand_back
    monkeypatch.setattr(AttemptWork, "checkpoint", lambda work: replace(take(work), run_id="run"))

    def fits(held: Checkpoint) -> Checkpoint:
        if held.run_id is not None:
            raise StatementFailed("54000")
        return held

    async def saved(items: Sequence[Checkpoint]) -> frozenset[str]:
        return await checkpoint([fits(held) for held in items])

    async def handed_back(held: Checkpoint, billed: int) -> bool:
        return await hand_back(fits(held), billed)

    monkeypatch.setattr(rig.store, "checkpoint", saved)
    monkeypatch.setattr(rig.store, "hand_back", handed_back)

    row = await left_by(way, rig, attempt)
    assert (row.status, row.content) == ("retrying" if way == "retry" else "queued", "So far.")
    assert [type(error) for error in told] == [StatementFailed]
