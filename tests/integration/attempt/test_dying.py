"""A worker dies after any effect of an answer with two rounds of tools: no tool runs without a
permission, no result is lost, and the answer ends.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.databases import create_tables
from tests.integration.attempt.dying import CONTENT, Story, result, results_in
from tests.integration.mortal import Life
from tests.integration.worker_rig import events_of
from tokenwire.models.conversations import Post, Posted
from tokenwire.models.parts import answer_of
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol.events import is_terminal
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.outcomes import outcome_of
from tokenwire.protocol.states import CALL_ENDED
from tokenwire.worker.attempt.rounds import differences

nth_effects = pytest.mark.parametrize(
    "nth", [pytest.param(1, marks=pytest.mark.long, id="all"), pytest.param(60, id="some")]
)


@asynccontextmanager
async def story(folder: Path, number: int = 0, *, saves: bool = True) -> AsyncIterator[Story]:
    """An answer of its own. `number` also varies what people decide."""
    url = f"sqlite:///{folder}/{number}.db"
    create_tables(url)
    store = Store.open(url)
    conversation = await store.create_conversation("me", title="t")
    posted = await store.post(Post(conversation.id, "me", "hi", "m"))
    row = posted.assistant_message
    await store.mark_posted(posted.user_message.id, row.id, 1, enqueued=True)
    try:
        yield Story(store, row, saves, go_on=number % 2 == 0, deny=number % 3 == 0)
    finally:
        await store.aclose()


async def check_runs(found: Story, row: Row) -> None:
    """Each run had its permission, and each result is that of a run."""
    decisions = await found.store.decisions_of(row.id)
    questions = [(each.number, each.runs) for each in decisions]
    assert len(questions) == len(set(questions)), "a question was decided twice"
    calls = await found.calls()
    assert {key for key, _ in found.ran} <= {call.key for call in calls}
    for call in calls:
        ran = [run for key, run in found.ran if key == call.key]
        assert len(ran) == len(set(ran)), "one claim began two runs"
        assert len(ran) <= call.runs
        said = [each.decision for each in decisions if each.number == call.number]
        if not call.repeatable:
            allowed = said.count("repeat") + ("deny" not in said)
            assert len(ran) <= allowed, (call.name, ran, said)
        if call.state == "done":
            n = int(call.input.removeprefix('{"n": ').removesuffix("}"))
            assert call.result in [result(call.name, n, run) for run in ran]


async def check_records(found: Story, row: Row) -> None:
    """Log, row and calls agree; what was stored or sent to the model is still so."""
    whole, calls = await events_of(found.log, row), await found.calls()
    log = [event for event in whole if getattr(event, "message_id", None) == row.id]
    answer, stored = Answer(row.id), answer_of(row)
    for event in log:
        answer.apply(event)
    assert [part.view() for part in answer.parts] == [part.view() for part in stored.parts]
    assert [event for event in log if is_terminal(event)] == log[-1:]
    assert not list(differences(stored, calls))
    assert all(call.state in CALL_ENDED for call in calls)
    results = {call.number: call.result for call in calls}
    assert {number: results[number] for number in found.done} == found.done
    parts = [part.fields for part in stored.parts if part.type == "tool_call"]
    outcomes = [outcome for part in parts if (outcome := outcome_of(part)) is not None]
    for request in found.asked:
        sent = results_in(request)
        assert sent == [text for text, _ in outcomes[: len(sent)]]


async def check(found: Story, row: Row) -> None:
    assert (row.status, row.content, row.rounds) == ("complete", CONTENT, 2)
    assert len(await found.calls()) == 5
    await check_runs(found, row)
    await check_records(found, row)


def crash_points(effects: Sequence[str], nth: int) -> list[int]:
    """How many effects a worker does: up to the first of each kind, and every `nth`."""
    first = {effects.index(name) + 1 for name in effects}
    return sorted(first | {*range(nth, len(effects), nth)})


async def test_nobody_dies(tmp_path: Path) -> None:
    """Every tool runs once; one person is too late."""
    async with story(tmp_path, 1) as found:
        row = await found.ends([])
        await check(found, row)
        assert [call.state for call in await found.calls()] == ["done"] * 5
        assert [run for _, run in found.ran] == [1] * 5
        assert (row.waits, found.refused) == (1, 1)


@nth_effects
@pytest.mark.parametrize(
    ("again", "saves"),
    [(None, False), pytest.param(4, True, marks=pytest.mark.long)],
    ids=["once", "twice"],
)
async def test_a_worker_dies_after_any_effect(
    again: int | None, saves: bool, nth: int, tmp_path: Path
) -> None:
    """`again`: so does its successor, so many effects later. People decide about what waits.

    Of the effects, `make test-all` has each, `make test` the first of each kind and every 60th.
    """
    async with story(tmp_path) as found:
        life = Life()
        await found.ends([life])
    effects, asked = life.done, 0
    for number in crash_points(effects, nth):
        async with story(tmp_path, number, saves=saves) as found:
            lives = [Life(number), *([Life(again)] if again else [])]
            await check(found, await found.ends(lives))
            asked += found.refused
    assert asked > len(crash_points(effects, nth)), "nobody was asked what became of a call"


@nth_effects
async def test_a_worker_dies_while_a_person_decides_at_once(nth: int, tmp_path: Path) -> None:
    """Decisions come in the middle of an attempt, or between its last glance and its park."""
    async with story(tmp_path) as found:
        life = Life()
        await found.ends([life])
    for number in crash_points(life.done, nth):
        async with story(tmp_path, number) as found:
            person = asyncio.create_task(found.decide_at_once())
            try:
                row = await found.ends([Life(number)])
            finally:
                person.cancel()
                await asyncio.wait({person})
            await check(found, row)


@nth_effects
async def test_a_worker_dies_before_or_behind_a_step_that_brings_a_message(
    nth: int, tmp_path: Path
) -> None:
    """The message comes with one step, is in each request behind it once, and its placeholder
    ends as steered.
    """
    for number in [0, *crash_points(await _effects_steered(tmp_path), nth)]:
        async with story(tmp_path, number + 1) as found:
            posted = await _steers(found)
            row = await found.ends([Life(number)] if number else [])
            assert (row.status, row.content) == ("complete", CONTENT)
            await check_runs(found, row)
            await check_records(found, row)
            steps = [part for part in answer_of(row).parts if "message_ids" in part.fields]
            assert [part.fields["message_ids"] for part in steps] == [[posted.user_message.id]]
            placeholder = await found.store.message(posted.assistant_message.id)
            assert placeholder is not None
            assert (placeholder.status, placeholder.cancel_by) == ("cancelled", "steered")
            assert placeholder.terminal_announced
            for request in found.asked:
                texts = [message.text for message in request.messages if message.role == "user"]
                assert texts == ["hi", *["Hurry"] * bool(results_in(request))]


async def _steers(found: Story) -> Posted:
    conversation_id = found.row.conversation_id
    return await found.store.post(Post(conversation_id, "me", "Hurry", "m", "steer"))


async def _effects_steered(folder: Path) -> Sequence[str]:
    async with story(folder) as found:
        await _steers(found)
        life = Life()
        await found.ends([life])
    return life.done
