"""An answer's other values are saved while it runs, so that a successor has them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.worker_rig import NoJobs, Script, Step, runner_over, services_over
from tokenwire.config.terms import AnswerTerms
from tokenwire.models.conversations import Post
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.parts import answer_of
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.providers import base
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import closing
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
        (part.fields.get("at", 0), part.kept["value"]["type"] if part.kept else "dropped")
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
        self, *steps: Step, rung: str, run_id: str | None = None
    ) -> tuple[Runner, "asyncio.Task[None]"]:
        """An answer with this output that waits."""
        begun = asyncio.Event()

        async def wait() -> None:
            begun.set()
            await asyncio.Event().wait()

        runner = runner_over(
            self.services, Script([*steps, wait], run_id=run_id), continuation=rung
        )
        running = asyncio.create_task(runner.generate(self.row.id))
        await begun.wait()
        return runner, running

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


async def test_items_above_the_limit_stay_dropped(rig: Rig) -> None:
    """A successor keeps none either: a result without its tool would be refused."""
    await rig.hand_over(
        [
            base.TextDelta("Look: "),
            item(USE | {"input": {"image": "x" * AnswerTerms().max_kept_bytes}}),
        ],
        rung="prefix",
    )
    await rig.hand_over([item(RESULT)], rung="prefix")
    await runner_over(
        rig.services,
        Script([[base.TextDelta("there."), item(RESULT), DONE]]),
        continuation="prefix",
    ).generate(rig.row.id)
    row = await rig.reread()
    assert (row.status, row.content, row.parts_kept) == ("complete", "Look: there.", None)


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
