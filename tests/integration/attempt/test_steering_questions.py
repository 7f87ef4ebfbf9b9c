"""Posts to an answer whose calls await somebody, posts of other people, and to conversations that
no list shows.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.attempt.test_calls import Turns, call_parts, calls, killed_process, says
from tests.integration.attempt.test_choices import own
from tests.integration.attempt.test_steering import Steered, sent
from tokenwire.models.call_states import Decision
from tokenwire.models.conversations import Policy, Post
from tokenwire.models.errors import NotAwaited, NotDecider, NotFound
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.models.tool_choices import ToolChoices
from tokenwire.tools import tool


@pytest.fixture
async def world(sqlite_store: Store) -> AsyncIterator[Steered]:
    world = Steered(sqlite_store)
    home, ran = asyncio.get_running_loop(), list[str]()

    @tool(approve=True)
    def pay() -> str:
        """Pay."""
        raise AssertionError

    @tool
    async def send() -> str:
        """Send."""
        ran.append("send")
        await asyncio.sleep(60)
        return "never"

    @tool
    async def work() -> str:
        """Work."""
        happens, world.meanwhile = world.meanwhile, None
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(happens(), home))
        return "worked"

    world.offers(pay, send, work)
    world.ran = ran
    yield world
    for box in world.boxes:
        await box.aclose()


async def asks(world: Steered, conversation_id: str = "", content: str = "hi") -> Row:
    """A question whose answer may use the client's tool `pick`."""
    conversation_id = conversation_id or (await world.store.create_conversation("me")).id
    choices = ToolChoices(own=[own()], all_of_server=True)
    post = Post(conversation_id, "me", content, "m", tools=choices)
    return (await world.store.post(post)).assistant_message


async def waits(world: Steered, provider: Turns, name: str, row: Row) -> Row:
    """The answer, which waits for somebody: the call of `send` has died with its worker."""
    if name == "send":
        job = asyncio.create_task(world.runner(provider).generate(row.id))
        while not world.ran:
            await asyncio.sleep(0.01)
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr(type(world.store), "finish_call", killed_process)
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
        await asyncio.sleep(0.3)  # its lease expires
    row = await world.runs(provider, row)
    assert row.status == "waiting"
    return row


QUESTIONS = {
    "pay": ("{}", "withdrawn", Decision("approve")),
    "pick": ('{"city": "Oslo"}', "withdrawn", Decision("result", value=1)),
    "send": ("{}", "unknown", Decision("repeat")),
}
"""Name of the called tool: its arguments, the state of the call afterwards, a late decision."""


@pytest.mark.parametrize("policy", ["queue", "steer"])
@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_post_takes_each_question_back(world: Steered, name: str, policy: Policy) -> None:
    """For an approval, for a tool of the front end, and for what nobody knows: the model gets the
    message, and a decision comes too late.
    """
    arguments, state, late = QUESTIONS[name]
    provider = Turns(calls((name, arguments)), says("Fine."))
    row = await waits(world, provider, name, await asks(world))
    posted = await world.posts_again(row, "No, wait", policy)
    assert posted.resumed == row.id
    with pytest.raises(NotAwaited):
        await world.store.decide(row.id, 0, "me", late)
    row = await world.runs(provider, row)
    assert (row.status, row.content) == ("complete", "Fine.")
    assert [part["state"] for part in call_parts(await world.logged(row))] == [state]
    assert await world.step_ids(row) == [[posted.user_message.id]]
    assert sent(provider.asked[-1])[-1] == ("user", "No, wait")
    assert world.ran == (["send"] if name == "send" else [])


@pytest.mark.parametrize("policy", ["queue", "steer"])
async def test_a_post_while_one_call_runs_and_another_awaits_a_person(
    world: Steered, policy: Policy
) -> None:
    """The call that runs ends; then the question is taken back, and nothing waits."""
    row, posted = await asks(world), list[Any]()

    async def post() -> None:
        assert [call.state for call in await world.calls(row)] == ["running", "awaiting_approval"]
        posted.append(await world.posts_again(row, "Not that", policy))

    world.meanwhile = post
    provider = Turns(calls(("work", "{}"), ("pay", "{}")), says("Fine."))
    row = await world.runs(provider, row)
    assert (row.status, row.waits) == ("complete", 0)
    parts = call_parts(await world.logged(row))
    assert [part["state"] for part in parts] == ["done", "withdrawn"]
    assert await world.step_ids(row) == [[posted[0].user_message.id]]


@pytest.mark.parametrize("policy", ["queue", "steer"])
async def test_another_participant_steers_an_answer_that_waits(
    world: Steered, policy: Policy
) -> None:
    """Who may not decide may write: the question is taken back, and the message keeps its author.
    A stranger's post changes nothing.
    """
    provider = Turns(calls(("pay", "{}")), says("Fine."))
    row = await waits(world, provider, "pay", await asks(world))
    await world.store.invite(row.conversation_id, "me", "ada", 100, 100)
    await world.store.accept_invitation(row.conversation_id, "ada")
    with pytest.raises(NotFound):
        await world.store.post(Post(row.conversation_id, "eve", "Mine", "m", policy))
    with pytest.raises(NotDecider):
        await world.store.decide(row.id, 0, "ada", Decision("approve"))
    assert (await world.row(row)).status == "waiting"
    posted = await world.store.post(Post(row.conversation_id, "ada", "No, wait", "m", policy))
    row = await world.runs(provider, row)
    assert (row.status, row.content, row.user_id) == ("complete", "Fine.", None)
    assert await world.step_ids(row) == [[posted.user_message.id]]
    assert (await world.row(posted.user_message)).user_id == "ada"
    assert (await world.row(posted.assistant_message)).cancel_by == "steered"


async def test_steering_where_no_list_shows_the_conversation(world: Steered) -> None:
    """It is like any other, for its owner alone."""
    found = await world.store.create_unlisted("me", None)
    row = await asks(world, found.id)
    posted = list[Any]()

    async def post() -> None:
        with pytest.raises(NotFound):
            await world.store.post(Post(found.id, "eve", "Mine", "m", "steer"))
        posted.append(await world.posts_again(row, "In French"))

    world.meanwhile = post
    provider = Turns(calls(("work", "{}")), says("Bon."))
    row = await world.runs(provider, row)
    assert await world.step_ids(row) == [[posted[0].user_message.id]]
    assert sent(provider.asked[1])[-1] == ("user", "In French")
    listed, _ = await world.store.conversations("me", 9)
    assert listed == []
