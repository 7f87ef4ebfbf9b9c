"""Posts that reach a running answer at a step: when, how often, and what becomes of those that do
not.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.attempt.test_calls import Turns, World, call_parts, calls, says
from tests.integration.worker_rig import events_of, runner_over, services_over
from tokenwire.config.terms import AnswerTerms
from tokenwire.models.chats import Regeneration
from tokenwire.models.conversations import Policy, Post, Posted
from tokenwire.models.errors import StatementFailed
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.parts import answer_of
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol.events import Cancelled, is_terminal
from tokenwire.protocol.fold import Answer
from tokenwire.providers.base import Request
from tokenwire.tools import tool
from tokenwire.worker import closing


class Steered(World):
    """A world with a tool during whose run something happens. `ran`: what tools did."""

    meanwhile: Any = None
    ran: list[str]

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


DEATHS = {
    "steering_behind": ("queued", False),
    "texts_of": ("queued", False),
    "take_in": ("queued", True),
    "message": ("cancelled", True),
}
"""Of a worker that dies just before it calls this function of the store: the status of the
placeholder, and whether readers hold the step.
"""


@pytest.mark.parametrize("before", DEATHS)
async def test_a_crash_loses_nothing(
    world: Steered, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """Wherever a worker dies, the message comes with one step, and its placeholder ends once."""
    row, posted = await world.posts(), []

    async def post() -> None:
        posted.append(await world.posts_again(row, "In French"))

    world.meanwhile = post
    await dies(world, monkeypatch, before, row)
    user, placeholder = posted[0].user_message, posted[0].assistant_message
    held = Answer(row.id)
    for each in await events_of(world.log, row):
        held.apply(each)
    named = any("message_ids" in part.fields for part in held.parts)
    status = (await world.row(placeholder)).status
    assert (status, named) == DEATHS[before]
    stored = any("message_ids" in part.fields for part in answer_of(await world.row(row)).parts)
    assert stored or status == "queued"
    await asyncio.sleep(0.3)  # its lease expires
    provider = Turns(says("Bon."))
    row = await world.runs(provider, row)
    assert row.status == "complete"
    assert await world.step_ids(row) == [[user.id]]
    assert [text for role, text in sent(provider.asked[0]) if role == "user"] == ["hi", "In French"]
    ended = await world.row(placeholder)
    assert (ended.status, ended.cancel_by, ended.superseded_by) == ("cancelled", "steered", row.id)
    assert ended.terminal_announced or before == "message"  # which is left to the sweeper


async def dies(world: Steered, patch: pytest.MonkeyPatch, before: str, row: Row) -> None:
    """A worker runs the answer and dies just before it calls this function of its store, once
    somebody has posted.
    """
    call = getattr(type(world.store), before)

    async def found(*arguments: Any) -> Any:
        if world.meanwhile is None:
            raise asyncio.CancelledError
        return await call(*arguments)

    with patch.context() as dying:
        dying.setattr(type(world.store), before, found)
        job = asyncio.create_task(world.runner(Turns(calls(("work", "{}")))).generate(row.id))
        await asyncio.gather(job, return_exceptions=True)


@pytest.mark.parametrize("before", ["texts_of", "take_in"])
async def test_a_cancel_between_the_post_and_the_next_turn(
    world: Steered, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    """A message that no step names is answered next. One that a step names belongs to the answer
    that was stopped: it is not answered twice.
    """
    row, posted = await world.posts(), []

    async def post() -> None:
        posted.append(await world.posts_again(row, "In French"))

    world.meanwhile = post
    await dies(world, monkeypatch, before, row)
    await asyncio.sleep(0.3)  # its lease expires
    await closing.cancel(world.store, world.log, world.jobs, row.id, "me")
    placeholder = await world.row(posted[0].assistant_message)
    following = await world.store.next_queued(row.conversation_id)
    assert (await world.row(row)).status == "cancelled"
    if before == "take_in":
        assert await world.step_ids(row) == [[posted[0].user_message.id]]
        assert (placeholder.status, placeholder.cancel_by) == ("cancelled", "steered")
        assert following is None
    else:
        assert await world.step_ids(row) == []
        assert (placeholder.status, following) == ("queued", placeholder.id)
        provider = Turns(says("Bon."))
        assert (await world.runs(provider, placeholder)).content == "Bon."
        assert sent(provider.asked[0])[-1] == ("user", "In French")


async def test_an_exhausted_budget_leaves_the_message_in_line(world: Steered) -> None:
    """The answer fails before the step that would bring it."""
    row, posted = await world.posts(), []

    async def post() -> None:
        posted.append(await world.posts_again(row, "In French"))

    world.meanwhile = post
    provider = Turns(calls(("work", "{}")), says("Bon."))
    terms = AnswerTerms(max_requests_per_answer=1)
    services = services_over(world.store, world.log, world.jobs, terms)
    await runner_over(replace(services, toolbox=world.toolbox()), provider).generate(row.id)
    row = await world.row(row)
    assert (row.error or {})["code"] == "budget_exhausted"
    assert await world.step_ids(row) == []
    assert await world.store.next_queued(row.conversation_id) == posted[0].assistant_message.id


async def test_a_database_that_refuses_leaves_the_placeholder_to_the_end(
    world: Steered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer goes on, and its end does what is left."""
    row, posted = await world.posts(), []

    async def post() -> None:
        posted.append(await world.posts_again(row, "In French"))

    async def refuses(*_: Any) -> None:
        raise StatementFailed("a damaged row")

    world.meanwhile = post
    monkeypatch.setattr(type(world.store), "take_in", refuses)
    provider = Turns(calls(("work", "{}")), calls(("work", "{}")), says("Bon."))
    row = await world.runs(provider, row)
    assert (row.status, row.content) == ("complete", "Bon.")
    assert await world.step_ids(row) == [[posted[0].user_message.id], None]
    placeholder = await world.row(posted[0].assistant_message)
    assert (placeholder.cancel_by, placeholder.superseded_by) == ("steered", row.id)


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
