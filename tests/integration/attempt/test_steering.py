"""Posts that reach a running answer at a step: when, how often, and what becomes of those that do
not.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.attempt.test_calls import Turns, World, call_parts, calls, says
from tests.integration.worker_rig import events_of
from tokenwire.models.chats import Regeneration
from tokenwire.models.conversations import Policy, Post, Posted
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol.events import Cancelled, is_terminal
from tokenwire.providers.base import Request
from tokenwire.tools import tool


class Steered(World):
    """A world with a tool during whose run something happens."""

    meanwhile: Any = None

    async def posts_again(
        self, row: Row, content: str, policy: Policy = "steer", **fields: Any
    ) -> Posted:
        post = Post(row.conversation_id, "me", content, "m", policy, **fields)
        return await self.store.post(post)

    async def step_ids(self, row: Row) -> list[list[str] | None]:
        """What each step of the answer brought."""
        parts = (await self.logged(row)).parts
        return [part.fields.get("message_ids") for part in parts if part.type == "step"]


@pytest.fixture
async def world(sqlite_store: Store) -> AsyncIterator[Steered]:
    world = Steered(sqlite_store)

    @tool
    async def work() -> str:
        """Work."""
        if world.meanwhile is not None:
            happens, world.meanwhile = world.meanwhile, None
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(happens(), home))
        return "worked"

    home = asyncio.get_running_loop()
    world.offers(work)
    yield world
    for box in world.boxes:
        await box.aclose()


def sent(request: Request) -> list[tuple[str, str]]:
    """Role and text of each message."""
    return [(message.role, message.text) for message in request.messages]


async def test_a_post_reaches_the_answer_at_its_next_step(world: Steered) -> None:
    """It comes behind the results of the round, is announced by the step, and its placeholder ends.

    Later answers get it at the same place, once.
    """
    row, posted = await world.posts(), []

    async def post() -> None:
        posted.append(await world.posts_again(row, "In French, please."))

    world.meanwhile = post
    provider = Turns(calls(("work", "{}")), calls(("work", "{}")), says("Bon."))
    row = await world.runs(provider, row)
    user, placeholder = posted[0].user_message, posted[0].assistant_message
    assert sent(provider.asked[1]) == [
        *[("user", "hi"), ("assistant", ""), ("user", "In French, please.")]
    ]
    assert sent(provider.asked[2])[:3] == sent(provider.asked[1])
    assert sent(provider.asked[2])[3:] == [("assistant", "")]
    assert await world.step_ids(row) == [[user.id], None]
    ended = await world.row(placeholder)
    assert (ended.status, ended.cancel_by, ended.superseded_by) == ("cancelled", "steered", row.id)
    assert ended.terminal_announced
    end = next(each for each in await events_of(world.log, row) if is_terminal(each))
    assert isinstance(end, Cancelled)
    assert end.message_id == placeholder.id
    assert (end.by, end.length) == ("steered", 0)
    shown = (await world.store.snapshot(row.conversation_id, "me", 9)).messages
    assert [each.id for each in shown][1:] == [row.id, user.id]
    assert shown[-1].steers == row.id
    after = Turns(says("Oui."))
    await world.runs(after, (await world.posts_again(row, "Thanks")).assistant_message)
    assert [text for role, text in sent(after.asked[0]) if role == "user"] == [
        *("hi", "In French, please.", "Thanks")
    ]
    assert [role for role, _ in sent(after.asked[0])] == [
        *("user", "assistant", "user", "assistant", "user")
    ]


async def test_two_posts_come_in_order_with_one_step(world: Steered) -> None:
    """Also one of another participant. One that only waits its turn stays behind the answer."""
    row, posted = await world.posts(), []

    async def post() -> None:
        posted.append(await world.posts_again(row, "one"))
        posted.append(await world.posts_again(row, "later", "queue"))
        posted.append(await world.posts_again(row, "two"))

    world.meanwhile = post
    provider = Turns(calls(("work", "{}")), says("Well."))
    row = await world.runs(provider, row)
    assert sent(provider.asked[1])[-2:] == [("user", "one"), ("user", "two")]
    first, queued, second = (each.user_message.id for each in posted)
    assert await world.step_ids(row) == [[first, second]]
    waits = await world.row(posted[1].assistant_message)
    assert waits.status == "queued"
    after = Turns(says("Now."))
    await world.runs(after, waits)
    assert [text for role, text in sent(after.asked[0]) if role == "user"] == [
        *("hi", "one", "two", "later")
    ]
    assert queued not in (first, second)


async def test_without_a_step_the_post_is_answered_next(world: Steered) -> None:
    """The answer ends: the post is answered like one that waited."""
    row = await world.posts()
    posted = await world.posts_again(row, "And?")
    await world.runs(Turns(says("Done.")), row)
    provider = Turns(says("More."))
    answer = await world.runs(provider, posted.assistant_message)
    assert (answer.status, answer.content) == ("complete", "More.")
    assert sent(provider.asked[0]) == [("user", "hi"), ("assistant", "Done."), ("user", "And?")]


async def test_a_cancelled_post_does_not_steer(world: Steered) -> None:
    row, posted = await world.posts(), []

    async def post() -> None:
        posted.append(await world.posts_again(row, "No"))
        await world.store.request_cancel(posted[0].assistant_message.id, "me")

    world.meanwhile = post
    provider = Turns(calls(("work", "{}")), says("Well."))
    row = await world.runs(provider, row)
    assert await world.step_ids(row) == [None]
    assert (await world.row(posted[0].user_message)).steers is None
    assert sent(provider.asked[1]) == [("user", "hi"), ("assistant", "")]


async def test_the_last_turn_takes_posts_too(world: Steered) -> None:
    """The one without tools, behind the last round."""
    world.terms = world.terms.model_copy(update={"max_tool_rounds": 1})
    row = await world.posts()
    world.meanwhile = lambda: world.posts_again(row, "Quick!")
    provider = Turns(calls(("work", "{}")), says("Yes."))
    await world.runs(provider, row)
    assert provider.asked[1].tool_choice == "none"
    assert sent(provider.asked[1])[-1] == ("user", "Quick!")


@pytest.mark.parametrize("policy", ["queue", "steer"])
async def test_a_post_in_front_of_a_question_steers(world: Steered, policy: Policy) -> None:
    """While the answer waits for a decision: the question is taken back, and the model gets the
    message instead.
    """

    @tool(approve=True)
    def pay() -> str:
        """Pay."""
        raise AssertionError

    world.offers(pay)
    provider = Turns(calls(("pay", "{}")), says("Fine."))
    row = await world.runs(provider, await world.posts())
    assert row.status == "waiting"
    posted = await world.posts_again(row, "No, wait", policy)
    assert posted.resumed == row.id
    row = await world.runs(provider, row)
    assert (row.status, row.content) == ("complete", "Fine.")
    assert await world.step_ids(row) == [[posted.user_message.id]]
    assert sent(provider.asked[1])[-1] == ("user", "No, wait")
    assert (await world.row(posted.assistant_message)).cancel_by == "steered"


async def test_a_post_that_waited_before_the_question_steers(world: Steered) -> None:
    """It would wait behind a question that its author has not seen."""

    @tool(approve=True)
    def pay() -> str:
        """Pay."""
        raise AssertionError

    world.offers(pay)
    row = await world.posts()
    posted = await world.posts_again(row, "And then?", "queue")
    provider = Turns(calls(("pay", "{}")), says("Fine."))
    row = await world.runs(provider, row)
    assert (row.status, row.content, row.waits) == ("complete", "Fine.", 0)
    assert [part["state"] for part in call_parts(await world.logged(row))] == ["withdrawn"]
    assert await world.step_ids(row) == [[posted.user_message.id]]


async def test_a_repeated_post_returns_the_answer_that_took_it(world: Steered) -> None:
    """By its key, and by the client's id of the message."""
    row, posted = await world.posts(), []
    names = {"idempotency": Idempotency.of("key", "route", "body"), "client_id": "c1"}

    async def post() -> None:
        posted.append(await world.posts_again(row, "In French", **names))

    world.meanwhile = post
    row = await world.runs(Turns(calls(("work", "{}")), says("Bon.")), row)
    for repeated in (names, {"client_id": "c1"}):
        again = await world.posts_again(row, "In French", **repeated)
        assert again.user_message.id == posted[0].user_message.id
        assert again.assistant_message.id == row.id


async def test_a_crash_behind_the_rows_loses_nothing(
    world: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The placeholder has ended, no step names the message: the next attempt brings it, once."""
    row, taken = await world.posts(), []
    world.meanwhile = lambda: world.posts_again(row, "In French")
    take_in = type(world.store).take_in

    async def dies(*arguments: Any) -> None:
        taken.append(await take_in(*arguments))
        raise asyncio.CancelledError

    with monkeypatch.context() as dying:
        dying.setattr(type(world.store), "take_in", dies)
        job = asyncio.create_task(world.runner(Turns(calls(("work", "{}")))).generate(row.id))
        await asyncio.gather(job, return_exceptions=True)
    (found,) = taken
    assert len(found.ended) == 1
    await asyncio.sleep(0.3)  # its lease expires
    provider = Turns(says("Bon."))
    row = await world.runs(provider, row)
    assert row.status == "complete"
    assert await world.step_ids(row) == [[found.messages[0].id]]
    assert sent(provider.asked[0])[-1] == ("user", "In French")


async def test_a_message_answered_again_stands_before_its_own_answer(world: Steered) -> None:
    """And not at the step any more: the model gets it once."""
    row, posted = await world.posts(), []

    async def post() -> None:
        posted.append(await world.posts_again(row, "In French"))

    world.meanwhile = post
    row = await world.runs(Turns(calls(("work", "{}")), says("Bon.")), row)
    user = posted[0].user_message
    again = await world.store.regenerate(Regeneration(row.conversation_id, "me", user.id, "m"))
    assert again.superseded == []
    provider = Turns(says("Encore."))
    await world.runs(provider, again.assistant_message)
    assert sent(provider.asked[0]) == [
        *[("user", "hi"), ("assistant", "Bon."), ("user", "In French")]
    ]
