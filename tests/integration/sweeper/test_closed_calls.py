"""Answers that end without an attempt: row and log show what was decided about their calls."""

from dataclasses import replace
from typing import Any

import pytest

from tests.contracts.calls import Asked, asked, call, checkpoint
from tests.integration.sweeper.rig import Rig
from tests.integration.worker_rig import events_of
from tokenwire.models.call_states import Decision
from tokenwire.models.errors import StatementFailed
from tokenwire.models.parts import StoredPart, answer_of
from tokenwire.models.unsaved import PartsToSave
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer
from tokenwire.worker import closing

APPROVE = Decision("approve", value='{"euros":1}')
INPUT = '{"euros": 5}'
DENY = Decision("deny", "Too much")


async def announced(rig: Rig) -> Asked:
    """A waiting answer with two calls; row and log hold what an attempt has before it parks."""
    answer = await asked(rig.store, call(0, "awaiting_approval"), call(1, "awaiting_approval"))
    claim = await rig.log.claim(answer.conversation_id, answer.id, 0, 0.0)
    shown: list[events.AnyEvent] = [events.Start(answer.id, 1, "m")]
    for number in (0, 1):
        opened = {"type": "tool_call", "id": f"c{number}", "name": "pay", "state": "streaming"}
        shown.append(events.PartEvent(answer.id, 1, number, opened))
        shown.append(events.ToolInput(answer.id, 1, 0, INPUT, number))
        waits = {"type": "tool_call", "state": "awaiting_approval", "runs_at": "server"}
        shown.append(events.PartEvent(answer.id, 1, number, waits))
    done = await rig.log.append(claim, 0, 0, [*shown, events.Wait(answer.id, 1)])
    await rig.log.release(claim)
    value = {"name": "pay", "state": "awaiting_approval", "runs_at": "server"}
    rows = [
        StoredPart(number, "tool_call", INPUT, {"id": f"c{number}", **value}, None)
        for number in (0, 1)
    ]
    saved = replace(
        checkpoint(answer.id, 1, 2, saves=9),
        epoch=claim.epoch,
        seq=done.last_seq,
        changes=PartsToSave(tuple(rows), None),
    )
    assert await rig.store.park(saved, 7, 0) == "parked"
    return answer


async def agreed(rig: Rig, answer: Asked) -> list[dict[str, Any]]:
    """The fields of the calls, which row, log and table of calls hold alike."""
    row = await answer.row()
    folded = Answer(row.id)
    for event in await events_of(rig.log, row):
        folded.apply(event)
    stored = answer_of(row)
    assert folded.ended
    fields = [part.fields for part in stored.parts]
    assert [part.fields for part in folded.parts] == fields
    assert await answer.states() == [one["state"] for one in fields]
    return fields


@pytest.mark.parametrize("how", ["cancelled", "error"])
async def test_a_decision_is_shown_by_the_end(rig: Rig, how: str) -> None:
    """No attempt has announced it: who ends the answer does, with the fence of its own claim."""
    answer = await announced(rig)
    await rig.store.decide(answer.id, 0, "me", APPROVE)
    await rig.store.decide(answer.id, 1, "me", DENY)
    if how == "cancelled":
        await closing.cancel(rig.store, rig.log, rig.services.jobs, answer.id, "me")
    else:
        failure = {"code": "internal_error", "error": "x", "retryable": False}
        await closing.end_failed(rig.store, rig.log, await answer.row(), failure)
    first, second = await agreed(rig, answer)
    assert (first["state"], first["ran_with"]) == ("withdrawn", '{"euros":1}')
    assert (first["approval"]["decision"], first["approval"]["by"]) == ("approved", "me")
    assert (second["state"], second["error"]) == (
        "denied",
        "A person denied this call: Too much",
    )
    assert second["approval"]["decision"] == "denied"
    assert (await answer.row()).status == how


async def test_a_decision_during_a_failure_is_not_lost(rig: Rig, monkeypatch: Any) -> None:
    """The end is refused, and its claim given back; the next one shows the decision."""
    answer = await announced(rig)
    await rig.store.decide(answer.id, 0, "me", APPROVE)
    read = rig.store.calls_at

    async def read_and_decide(message_id: str) -> Any:
        found = await read(message_id)
        monkeypatch.setattr(rig.store, "calls_at", read)
        await rig.store.decide(answer.id, 1, "me", DENY)
        return found

    monkeypatch.setattr(rig.store, "calls_at", read_and_decide)
    failure = {"code": "internal_error", "error": "x", "retryable": False}
    await closing.end_failed(rig.store, rig.log, await answer.row(), failure)
    assert (await answer.row()).status == "streaming"
    assert not await rig.log.leased(answer.conversation_id, answer.id)
    await closing.end_failed(rig.store, rig.log, await answer.row(), failure)
    assert [one["state"] for one in await agreed(rig, answer)] == ["withdrawn", "denied"]


async def test_unreadable_calls_do_not_keep_an_answer_alive(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cancel ends it without them."""
    answer = await announced(rig)

    async def fail(_id: str) -> Any:
        raise StatementFailed("a bad page")

    monkeypatch.setattr(rig.store, "calls_at", fail)
    await closing.cancel(rig.store, rig.log, rig.services.jobs, answer.id, "me")
    assert [one["state"] for one in await agreed(rig, answer)] == ["withdrawn"] * 2
