"""Answers with a schema: checked, repaired once, stored as JSON."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.integration.attempt.test_calls import Turns, World, calls, says, world
from tests.integration.worker_rig import events_of
from tokenwire.models.chats import Regeneration
from tokenwire.models.conversations import Post
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.providers.demo import DemoProvider
from tokenwire.providers.history import HistoryMessage
from tokenwire.providers.presets import PRESETS
from tokenwire.providers.spec import ModelSpec
from tokenwire.tools import tool

__all__ = ["world"]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
FITS, BREAKS = '{"city": "Oslo"}', '{"town": "Oslo"}'


async def posted(
    world: World, schema: dict[str, Any] | None = SCHEMA, content: str = "Where?"
) -> Row:
    conversation = await world.store.create_conversation("me")
    post = Post(conversation.id, "me", content, "m", response_schema=schema)
    return (await world.store.post(post)).assistant_message


def roles(messages: Sequence[HistoryMessage]) -> list[str]:
    return [message.role for message in messages]


async def resets(world: World, row: Row) -> list[events.Reset]:
    return [each for each in await events_of(world.log, row) if isinstance(each, events.Reset)]


async def test_a_document_that_fits_is_stored(world: World) -> None:
    provider = Turns(says(FITS))
    row = await world.runs(provider, await posted(world))
    assert (row.status, row.content, row.object) == ("complete", FITS, {"city": "Oslo"})
    assert len(provider.asked) == 1
    assert await resets(world, row) == []


async def test_an_answer_without_a_schema_is_no_document(world: World) -> None:
    row = await world.runs(Turns(says(FITS)), await posted(world, None))
    assert (row.status, row.object) == ("complete", None)


async def test_a_misfit_is_repaired(world: World) -> None:
    """The model gets its document and the errors; readers are left with the second one alone."""
    provider = Turns(says(BREAKS), says(FITS))
    row = await world.runs(provider, await posted(world))
    assert (row.status, row.content, row.object) == ("complete", FITS, {"city": "Oslo"})
    assert row.misfit is None
    question, said, asked = provider.asked[1].messages
    assert (question.role, said.role, asked.role) == ("user", "assistant", "user")
    assert said.text == BREAKS
    assert "#/city: is missing" in asked.text
    assert provider.asked[1].schema == SCHEMA
    (reset,) = await resets(world, row)
    assert (reset.keep, reset.keep_parts) == (0, 0)
    assert (await world.logged(row)).content == FITS


async def test_a_second_misfit_ends_the_answer(world: World) -> None:
    """Its text is kept as it was."""
    provider = Turns(says(BREAKS), says("Oslo!"))
    row = await world.runs(provider, await posted(world))
    assert len(provider.asked) == 2
    assert (row.status, row.content, row.object) == ("error", "Oslo!", None)
    assert row.error == {
        "code": "invalid_output",
        "error": "The answer does not fit its schema. Its text is kept.",
        "retryable": True,
    }
    assert (await world.logged(row)).error == row.error


@pytest.mark.parametrize(
    ("cue", "ended"), [("!misfit", ("complete", {"city": "Oslo"})), ("!misfits", ("error", None))]
)
async def test_the_demo_model_shows_both(world: World, cue: str, ended: tuple[str, Any]) -> None:
    """As the documentation promises: nobody needs a key to see it."""
    demo = ModelSpec("m", "demo", "m", options={"tokens_per_second": 0})
    row = await world.runs(
        DemoProvider(demo, PRESETS["demo"]), await posted(world, content=f"Oslo {cue}")
    )
    assert (row.status, row.object) == ended
    assert (row.error or {}).get("code") == (None if row.object else "invalid_output")


@pytest.mark.parametrize("reason", ["length", "content_filter"])
async def test_a_document_that_was_cut_off_is_not_repaired(
    world: World, reason: base.FinishReason
) -> None:
    """The answer ends with the reason for that, and without an object."""
    provider = Turns([base.TextDelta('{"city": '), base.Finish(reason)])
    row = await world.runs(provider, await posted(world))
    assert (row.status, row.finish_reason, row.object) == ("complete", reason, None)
    assert len(provider.asked) == 1


@pytest.mark.parametrize("late", [False, True])
async def test_a_crash_in_a_repair_costs_no_second_one(
    world: World, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """The worker dies when the misfit is stored, or while the model writes again: the next worker
    asks for the same repair, and a misfit then is the last.
    """
    stuck = asyncio.Event()

    async def dies() -> None:
        stuck.set()
        await asyncio.sleep(60)

    store = type(world.store)
    begin = store.begin_repair

    async def begin_and_die(*arguments: Any) -> bool:
        stored = await begin(*arguments)
        await dies()
        return stored

    provider = Turns(says(BREAKS), [base.TextDelta('{"ci')])
    row = await posted(world)
    with monkeypatch.context() as patched:
        if late:
            patched.setattr(store, "schedule_retry", lambda *_, **__: dies())
        else:
            patched.setattr(store, "begin_repair", begin_and_die)
        job = asyncio.create_task(world.runner(provider).generate(row.id))
        await asyncio.wait_for(stuck.wait(), 20)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
    await asyncio.sleep(0.3)  # its lease expires
    assert (await world.row(row)).misfit is not None
    after = Turns(says(BREAKS))
    row = await world.runs(after, row)
    (asked,) = after.asked
    assert roles(asked.messages) == ["user", "assistant", "user"]
    assert (row.status, row.content) == ("error", BREAKS)
    assert row.error is not None
    assert row.error["code"] == "invalid_output"
    assert (await world.logged(row)).content == BREAKS


async def test_a_document_behind_a_round(world: World) -> None:
    """Only the last turn is judged and repaired; a repair calls no tools."""

    @tool
    def find() -> str:
        """Find it."""
        return "Oslo"

    world.offers(find)
    first = [base.TextDelta("Wait."), *calls(("find", "{}"))]
    provider = Turns(first, says(BREAKS), says(FITS))
    row = await world.runs(provider, await posted(world))
    assert (row.status, row.object) == ("complete", {"city": "Oslo"})
    answer = await world.logged(row)
    assert [part.text for part in answer.parts if part.type == "text"] == ["Wait.", FITS]
    assert [each.tool_choice for each in provider.asked] == [None, None, "none"]
    assert roles(provider.asked[2].messages) == ["user", "assistant", "user"]


async def test_a_new_answer_keeps_the_schema(world: World) -> None:
    row = await world.runs(Turns(says(FITS)), await posted(world))
    again = Regeneration(row.conversation_id, "me", row.id, "m")
    answer = (await world.store.regenerate(again)).assistant_message
    assert answer.response_schema == SCHEMA
