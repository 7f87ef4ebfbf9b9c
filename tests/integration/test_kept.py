"""An answer's other values are saved while it runs, so that a successor has them."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from tests.integration.mortal import Life, Mortal
from tests.integration.worker_rig import (
    LEASE_SECONDS,
    NoJobs,
    Script,
    Step,
    runner_over,
    services_over,
)
from tokenwire.config.terms import AnswerTerms
from tokenwire.models.conversations import Post
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.parts import answer_of
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.providers import base
from tokenwire.providers.history import HistoryPart, KeptPart
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import closing
from tokenwire.worker.history import history_of
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import WorkerServices

API = "anthropic.messages"
USE = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
DONE = base.Finish("stop")


def item(value: dict[str, Any]) -> base.KeptDelta:
    return base.KeptDelta(API, value["type"], value)


def values(row: Row) -> list[tuple[int, str]]:
    """Where items of the provider stand in the text, and what they are."""
    parts = answer_of(row).parts
    found = [part for part in parts if part.type == "provider"]
    return [
        (
            part.fields.get("at", 0),
            part.kept["value"].get("type", "lost") if part.kept else "dropped",
        )
        for part in found
    ]


@dataclass
class Rig:
    store: Store
    row: Row
    log: MemoryLog = field(default_factory=MemoryLog)
    jobs: NoJobs = field(default_factory=NoJobs)

    @property
    def services(self) -> WorkerServices:
        return services_over(self.store, self.log, self.jobs)

    async def reread(self) -> Row:
        row = await self.store.message(self.row.id)
        assert row is not None
        return row

    async def begin(
        self, *steps: Step, rung: str, run_id: str | None = None, saves: bool = False
    ) -> tuple[Runner, "asyncio.Task[None]"]:
        """An answer with this output that waits. `saves`: it is saved before its last step."""
        begun = asyncio.Event()

        async def save() -> None:
            (attempt,) = runner.running()
            await attempt.work.writer.settle()
            await self.services.checkpointer.save([attempt])

        async def wait() -> None:
            begun.set()
            await asyncio.Event().wait()

        if saves:
            steps = (*steps[:-1], save, steps[-1])
        runner = runner_over(
            self.services, Script([*steps, wait], run_id=run_id), continuation=rung
        )
        running = asyncio.create_task(runner.generate(self.row.id))
        await begun.wait()
        return runner, running

    async def die(self, *steps: Step, rung: str, saves: bool = False) -> None:
        """The worker is killed. It appended all, but saved nothing; `saves`: all but the last."""
        life = Life()
        whole = replace(self, store=Mortal(self.store, life), log=Mortal(self.log, life))
        runner, running = await whole.begin(*steps, rung=rung, saves=saves)
        (attempt,) = runner.running()
        await attempt.work.writer.settle()
        life.kill()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.sleep(LEASE_SECONDS)
        async with self.store.writing() as session:
            await session.execute(text("UPDATE messages SET updated_at = updated_at - 60000"))

    def warnings(self, logged: Sequence[Any]) -> list[Any]:
        """What was said of parts that may be lost: the message, and their numbers."""
        lines = [line for line in logged if "parts" in line and line["log_level"] == "warning"]
        return [(line["message_id"], line["parts"]) for line in lines]

    async def hand_over(self, *steps: Step, rung: str, run_id: str | None = None) -> Row:
        """The row of an answer that a process has begun and handed over."""
        runner, running = await self.begin(*steps, rung=rung, run_id=run_id)
        await runner.drain(0)
        await running
        return await self.reread()


@pytest.fixture
async def rig(sqlite_store: Store) -> Rig:
    conversation = await sqlite_store.create_conversation("me")
    return Rig(
        sqlite_store,
        (await sqlite_store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message,
    )


async def test_items_are_checkpointed_when_they_change(rig: Rig) -> None:
    """Even without text, since a provider's tool may run for minutes. Stored items are not written
    again.
    """
    runner, running = await rig.begin([item(USE)], rung="prefix")
    (attempt,) = runner.running()
    assert attempt.uncheckpointed
    await rig.services.checkpointer.save([attempt])
    assert values(await rig.reread()) == [(0, "server_tool_use")]
    assert attempt.uncheckpointed == 0
    assert not attempt.checkpoint().changes
    await runner.drain(0)
    await running


async def test_a_successor_has_the_items_of_the_first_attempt(rig: Rig) -> None:
    """A provider's tool and its result are stored together, though different attempts saw them."""
    handed = await rig.hand_over([base.TextDelta("Look: "), item(USE)], rung="prefix")
    assert (handed.status, values(handed)) == ("queued", [(6, "server_tool_use")])
    await runner_over(
        rig.services,
        Script([[item(RESULT), base.TextDelta("there."), DONE]]),
        continuation="prefix",
    ).generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.content) == ("complete", "Look: there.")
    assert values(row) == [(6, "server_tool_use"), (6, "web_search_tool_result")]


@pytest.mark.parametrize("way", ["retry", "hand-over"])
async def test_items_survive_a_short_outage_of_the_database(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The last save of an attempt is repeated with everything that the first one held."""
    away = iter([True, True])

    def flaky(method: str) -> None:
        real = getattr(rig.store, method)

        async def call(*arguments: Any) -> Any:
            if next(away, False):
                raise StoreUnavailable("away")
            return await real(*arguments)

        monkeypatch.setattr(rig.store, method, call)

    monkeypatch.setattr("tokenwire.worker.outages.OUTAGE_PAUSE_SECONDS", 0.001)
    if way == "retry":
        flaky("checkpoint")
        script = Script([[base.TextDelta("Look: "), item(USE)], base.Interrupted("cut")])
        await runner_over(rig.services, script, continuation="prefix").generate(rig.row.id)
        row = await rig.reread()
    else:
        flaky("hand_back")
        row = await rig.hand_over([base.TextDelta("Look: "), item(USE)], rung="prefix")
    assert next(away, None) is None, "the database was never away"
    assert row.status == {"retry": "retrying", "hand-over": "queued"}[way]
    assert values(row) == [(6, "server_tool_use")]


async def test_items_are_dirty_until_they_are_saved(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running checkpoint may fail, so another one includes them."""
    runner, running = await rig.begin([item(USE)], rung="prefix")
    (attempt,) = runner.running()
    first, second = attempt.checkpoint(), attempt.checkpoint()
    assert first.changes == second.changes
    assert first.changes
    attempt.saved(second)
    assert not attempt.checkpoint().changes
    await runner.drain(0)
    await running


async def test_a_run_that_repeats_its_items(rig: Rig) -> None:
    """Attached to before its latest cursor, each of them is kept once at its place."""
    steps = [[base.TextDelta("Look: ")], [item(USE)], [base.TextDelta("there"), item(RESULT)]]
    await rig.hand_over(*steps[:2], rung="attach", run_id="run-1")
    async with rig.store.writing() as session:
        await session.execute(
            text("UPDATE messages SET run_cursor = 0, run_text = 0, run_parts = 0")
        )
    script = Script([*steps, [DONE]], run_id="run-1")
    await runner_over(rig.services, script, continuation="attach").generate(rig.row.id)
    row = await rig.reread()
    assert script.asked[0].continuation == base.Continuation("attach", "Look: ", "run-1", 0)
    assert (row.status, row.content) == ("complete", "Look: there")
    assert values(row) == [(6, "server_tool_use"), (11, "web_search_tool_result")]


async def test_an_answer_that_starts_over_drops_its_items(rig: Rig) -> None:
    """The row forgets them at the next checkpoint."""
    await rig.hand_over([base.TextDelta("Look: "), item(USE)], rung="restart")
    runner, running = await rig.begin([base.TextDelta("Anew.")], rung="restart")
    (attempt,) = runner.running()
    await attempt.work.writer.settle()
    await rig.services.checkpointer.save([attempt])
    row = await rig.reread()
    assert (row.content, values(row)) == ("Anew.", [])
    await runner.drain(0)
    await running


async def test_a_cancel_without_a_worker_keeps_the_items(rig: Rig) -> None:
    """They belong to the text that stays."""
    await rig.hand_over([base.TextDelta("Look: "), item(USE)], rung="prefix")
    await closing.cancel(rig.store, rig.log, rig.jobs, rig.row.id, "me")
    row = await rig.reread()
    assert (row.status, values(row)) == ("cancelled", [(6, "server_tool_use")])


TOO_LARGE = USE | {"input": {"image": "x" * AnswerTerms().max_kept_bytes}}


async def test_items_above_the_limit_stay_dropped(rig: Rig) -> None:
    """A run that goes on keeps none either: a result without its tool would be refused."""
    steps = [[base.TextDelta("Look: "), item(TOO_LARGE)], [item(RESULT)]]
    await rig.hand_over(*steps, rung="attach", run_id="run-1")
    script = Script([*steps, [base.TextDelta("there."), item(RESULT), DONE]], run_id="run-1")
    await runner_over(rig.services, script, continuation="attach").generate(rig.row.id)
    row = await rig.reread()
    assert script.asked[0].continuation is not None
    assert script.asked[0].continuation.rung == "attach"
    assert (row.status, row.content, row.parts_kept) == ("complete", "Look: there.", None)


@pytest.mark.parametrize("rung", ["prefix", "turn"])
async def test_another_request_keeps_what_it_gives(rig: Rig, rung: str) -> None:
    """Its turn refers to nothing before it. Of the first turn, nothing goes back."""
    await rig.hand_over([item(RESULT), base.TextDelta("Look: "), item(TOO_LARGE)], rung=rung)
    handed = await rig.hand_over([item(USE), item(RESULT)], rung=rung)
    assert values(handed)[2:] == [(6, "server_tool_use"), (6, "web_search_tool_result")]
    script = Script([[base.TextDelta("there."), item(USE), DONE]])
    await runner_over(rig.services, script, continuation=rung).generate(rig.row.id)
    assert kept_values(await rig.reread()) == [USE, RESULT, USE]


async def test_an_answer_whose_items_cannot_be_kept_says_so_once(rig: Rig) -> None:
    """Operators learn which parts, and why; nothing of what they hold."""
    with capture_logs() as logged:
        script = Script([[item(TOO_LARGE), base.TextDelta("Look."), item(TOO_LARGE), DONE]])
        await runner_over(rig.services, script).generate(rig.row.id)
    assert (await rig.reread()).status == "complete"
    [line] = [line for line in logged if "parts" in line]
    assert (line["message_id"], line["attempt"]) == (rig.row.id, 1)
    assert (line["parts"], line["reasons"]) == ([0], ["too large"])
    assert "xxx" not in str(line)


THOUGHT = base.Kept(API, "thinking", {"type": "thinking", "signature": "EqQB"})
REDACTED = base.Kept(API, "redacted_thinking", {"type": "redacted_thinking", "data": "Eo8"})


async def test_a_worker_that_dies_loses_one_turn_and_says_so(rig: Rig) -> None:
    """It had told readers of the parts and saved nothing. What the next request gives goes back."""
    first = [base.ReasoningDelta("hm"), base.ReasoningEnd(THOUGHT), base.ReasoningEnd(REDACTED)]
    await rig.die([*first, item(USE), base.TextDelta("Look: ")], rung="turn")
    with capture_logs() as logged:
        second = [base.ReasoningEnd(REDACTED), item(USE), item(RESULT), base.TextDelta("there")]
        await rig.hand_over(second, rung="turn")
    assert rig.warnings(logged) == [(rig.row.id, [0, 1, 2])]
    with capture_logs() as logged:
        script = Script([[item(USE), item(RESULT), base.TextDelta("."), DONE]])
        await runner_over(rig.services, script, continuation="turn").generate(rig.row.id)
    assert rig.warnings(logged) == [], "once"
    row = await rig.reread()
    parts = answer_of(row).parts
    assert (row.status, row.content) == ("complete", "Look: there.")
    assert [part.type for part in parts if part.fields.get("dropped")] == ["reasoning", "provider"]
    posted = await rig.store.post(Post(rig.row.conversation_id, "me", "And now?", "m"))
    script = Script([[base.TextDelta("Yes."), DONE]])
    await runner_over(rig.services, script).generate(posted.assistant_message.id)
    sent = [part for message in script.asked[0].messages for part in message.parts]
    assert kept_back(sent) == [REDACTED.value, USE, RESULT, USE, RESULT]


async def test_two_deaths_cost_no_turn_that_was_saved(rig: Rig) -> None:
    """The end of the first turn was noted when the second request began."""
    await rig.hand_over([item(USE), item(RESULT), base.TextDelta("Look: ")], rung="turn")
    await rig.die([base.TextDelta("there")], [item(USE)], rung="turn", saves=True)
    script = Script([[base.ReasoningEnd(THOUGHT), base.TextDelta("."), DONE]])
    await runner_over(rig.services, script, continuation="turn").generate(rig.row.id)
    parts = answer_of(await rig.reread()).parts
    assert [part.type for part in parts if part.fields.get("dropped")] == ["provider"]
    assert kept_values(await rig.reread()) == [USE, RESULT, THOUGHT.value]


def kept_values(row: Row) -> list[Any]:
    """What goes back of an answer that only the provider understands, in order."""
    return kept_back(history_of(answer_of(row).parts, {}))


def kept_back(sent: Iterable[HistoryPart]) -> list[Any]:
    """The same of what is sent."""
    found = list[Any]()
    for part in sent:
        kept = part if isinstance(part, KeptPart) else getattr(part, "kept", None)
        found += [kept.value] if isinstance(kept, base.Kept) else []
    return found


async def test_a_new_start_resets_the_limit(rig: Rig) -> None:
    """An answer that starts over keeps its new items."""
    await rig.hand_over(
        [
            base.TextDelta("Look: "),
            item(USE | {"input": {"image": "x" * AnswerTerms().max_kept_bytes}}),
        ],
        rung="restart",
    )
    await runner_over(
        rig.services, Script([[item(USE), base.TextDelta("Anew."), DONE]]), continuation="restart"
    ).generate(rig.row.id)
    assert values(await rig.reread()) == [(0, "server_tool_use")]
