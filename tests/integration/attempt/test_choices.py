"""Which tools an answer may use, tools of clients, and tools of the program that asks."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.databases import sql
from tests.integration.attempt.test_calls import (
    Turns,
    World,
    call_parts,
    calls,
    killed_process,
    says,
)
from tests.integration.worker_rig import runner_over, services_over
from tokenwire.models.call_states import Decision
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.models.tool_choices import NamedTool, OwnTool, ToolChoices
from tokenwire.tools import UnknownEffect, client_tool, tool

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@pytest.fixture
async def world(sqlite_store: Store) -> AsyncIterator[World]:
    world = World(sqlite_store)
    yield world
    for box in world.boxes:
        await box.aclose()


def offer(world: World) -> list[str]:
    """Two tools of the server, and the list of those that ran."""
    ran: list[str] = []

    @tool
    def add() -> int:
        """Add."""
        ran.append("add")
        return 3

    @tool(approve=True)
    def pay() -> str:
        """Pay."""
        ran.append("pay")
        return "paid"

    world.offers(add, pay)
    return ran


async def posted(world: World, choices: ToolChoices | None = None) -> Row:
    conversation = await world.store.create_conversation("me")
    post = Post(conversation.id, "me", "hi", "m", tools=choices or ToolChoices())
    return (await world.store.post(post)).assistant_message


async def runs(world: World, provider: Turns, row: Row, **spec: Any) -> Row:
    """One job, by a process whose model has these keys in the catalogue."""
    services = replace(services_over(world.store, world.log, world.jobs), toolbox=world.toolbox())
    async with asyncio.timeout(20):
        await runner_over(services, provider, **spec).generate(row.id)
    return await world.row(row)


async def narrow(world: World, row: Row, names: str) -> None:
    async with world.store.writing() as session:
        change = sql("UPDATE conversations SET tools = :names WHERE id = :id")
        await session.execute(change, {"names": names, "id": row.conversation_id})


def offered(provider: Turns) -> list[list[str]]:
    return [[each.name for each in request.tools] for request in provider.asked]


def own(name: str = "pick", runs_at: Any = "client") -> OwnTool:
    return OwnTool(name=name, description="D", parameters=CITY, runs_at=runs_at)


# --- which tools ---


@pytest.mark.parametrize(
    ("model", "conversation", "use", "names"),
    [
        (None, None, None, ["add", "pay"]),
        (["add"], None, None, ["add"]),
        ([], None, None, []),
        (None, '["pay"]', None, ["pay"]),
        (None, None, ["pay"], ["pay"]),
        (None, None, [], []),
        (["add"], '["pay"]', None, []),
        (None, '["add", "gone"]', ["add"], ["add"]),
    ],
)
async def test_each_list_narrows(
    world: World,
    model: list[str] | None,
    conversation: str | None,
    use: list[str] | None,
    names: list[str],
) -> None:
    """The catalogue's, the conversation's, the request's; none adds what another leaves out."""
    offer(world)
    row = await posted(world, ToolChoices(use=use))
    if conversation is not None:
        await narrow(world, row, conversation)
    provider = Turns(says("Hello."))
    row = await runs(world, provider, row, tools=model)
    assert (row.status, offered(provider)) == ("complete", [names])


async def test_a_tool_that_is_not_allowed_never_runs(world: World) -> None:
    """The model calls it all the same: it reads that there is none. The others run."""
    ran = offer(world)
    provider = Turns(calls(("pay", "{}"), ("add", "{}")), says("Well."))
    row = await runs(world, provider, await posted(world, ToolChoices(use=["add"])))
    first, second = call_parts(await world.logged(row))
    assert (first["state"], first["error"]) == ("failed", "There is no tool named pay.")
    assert (second["state"], second["result"], ran) == ("done", 3, ["add"])


async def test_a_tool_that_was_taken_away_meanwhile_never_runs(world: World) -> None:
    """A person allowed the call, and another worker finds that the conversation has it no more."""
    ran = offer(world)
    provider = Turns(calls(("pay", "{}")), says("Well."))
    row = await runs(world, provider, await posted(world, ToolChoices(use=["pay"])))
    assert row.status == "waiting"
    await narrow(world, row, '["add"]')
    await world.store.decide(row.id, 0, "me", Decision("approve"))
    row = await runs(world, provider, row)
    (part,) = call_parts(await world.logged(row))
    assert (row.status, part["state"], ran) == ("complete", "failed", [])
    assert offered(provider) == [["pay"], []]


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (ToolChoices(use=["add", "sub"]), "a tool named sub"),
        (ToolChoices(choice=NamedTool(name="sub")), "a tool named sub"),
        (ToolChoices(own=[own("pay")]), "a tool named pay, and so does the server"),
    ],
)
async def test_a_request_that_cannot_be_carried_out_is_refused(
    world: World, choices: ToolChoices, words: str
) -> None:
    """By name, for everyone to read. No provider is asked."""
    offer(world)
    provider = Turns(says("Hello."))
    row = await runs(world, provider, await posted(world, choices))
    assert row.error is not None
    assert (row.status, row.error["code"], provider.asked) == ("error", "invalid_request", [])
    assert words in row.error["error"]


async def test_a_required_tool_must_be_there(world: World) -> None:
    """A provider would refuse the request, or the model would invent a tool."""
    provider = Turns(says("Hello."))
    row = await runs(world, provider, await posted(world, ToolChoices(choice="required")))
    assert (row.status, provider.asked) == ("error", [])


async def test_an_unlisted_answer_uses_what_its_request_names(world: World) -> None:
    """And nothing else of the server."""
    ran = offer(world)
    row = await posted(world, ToolChoices(use=["add"]))
    async with world.store.writing() as session:
        await session.execute(sql("UPDATE conversations SET listed = false"))
    provider = Turns(calls(("add", "{}")), says("Three."))
    row = await runs(world, provider, row)
    assert (row.content, ran, offered(provider)) == ("Three.", ["add"], [["add"], ["add"]])


# --- the choice ---


async def test_the_choice_is_for_the_first_turn_alone(world: World) -> None:
    """Otherwise a model that must call would never end."""
    offer(world)
    choices = ToolChoices(choice=NamedTool(name="add"))
    provider = Turns(calls(("add", "{}")), says("Three."))
    row = await runs(world, provider, await posted(world, choices))
    assert row.status == "complete"
    assert [request.tool_choice for request in provider.asked] == ["add", None]


async def test_the_choice_is_not_made_again_after_a_crash(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies when the first turn is proven. Another one asks for the second turn."""
    offer(world)
    provider = Turns(calls(("add", "{}")), says("Three."))
    row = await posted(world, ToolChoices(choice="required"))
    with monkeypatch.context() as killed:
        killed.setattr(type(world.store), "claim_call", killed_process)
        job = asyncio.create_task(world.runner(provider).generate(row.id))
        await asyncio.gather(job, return_exceptions=True)
    await asyncio.sleep(0.3)  # its lease expires
    row = await runs(world, provider, row)
    assert (row.status, row.content) == ("complete", "Three.")
    assert [request.tool_choice for request in provider.asked] == ["required", None]


async def test_nothing_runs_if_the_request_chose_none(world: World) -> None:
    """Even if the model calls: the calls stay proposed."""
    ran = offer(world)
    provider = Turns(calls(("add", "{}")))
    row = await runs(world, provider, await posted(world, ToolChoices(choice="none")))
    assert (row.status, row.finish_reason, ran) == ("complete", "tool_calls", [])
    assert [part["state"] for part in call_parts(await world.logged(row))] == ["proposed"]


async def test_nobody_is_asked_for_an_approval_that_nobody_can_give(world: World) -> None:
    """The call is denied, and the model reads why."""
    ran = offer(world)
    provider = Turns(calls(("pay", "{}")), says("Well."))
    row = await runs(world, provider, await posted(world, ToolChoices(unattended=True)))
    (part,) = call_parts(await world.logged(row))
    assert (row.content, row.waits, ran) == ("Well.", 0, [])
    assert (part["state"], part["error"]) == (
        "denied",
        "This call needs an approval, and nobody can give one.",
    )


async def test_nobody_is_asked_for_an_outcome_that_nobody_can_give(world: World) -> None:
    """The model reads at once that it is unknown."""

    @tool
    def send() -> str:
        """Send."""
        raise UnknownEffect("The line went dead.")

    world.offers(send)
    provider = Turns(calls(("send", "{}")), says("Well."))
    row = await runs(world, provider, await posted(world, ToolChoices(unattended=True)))
    (part,) = call_parts(await world.logged(row))
    assert (row.status, row.content, row.waits) == ("complete", "Well.", 0)
    assert (part["state"], part["error"]) == ("unknown", "The line went dead.")


# --- tools of clients ---


async def test_a_client_executes_a_call(world: World) -> None:
    """The answer waits for its result for a day, and continues with it."""
    provider = Turns(calls(("pick", '{"city": "Oslo"}')), says("There."))
    row = await runs(world, provider, await posted(world, ToolChoices(own=[own()])))
    assert row.status == "waiting"
    (part,) = call_parts(await world.logged(row))
    assert (part["state"], part["runs_at"]) == ("awaiting_client", "client")
    left = datetime.fromisoformat(part["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23) < left < timedelta(hours=25)
    await world.store.decide(row.id, 0, "me", Decision("result", value={"at": [59.9, 10.7]}))
    row = await runs(world, provider, row)
    assert (row.status, row.content) == ("complete", "There.")
    (part,) = call_parts(await world.logged(row))
    assert (part["state"], part["result"]) == ("done", {"at": [59.9, 10.7]})
    assert "59.9" in repr(provider.asked[1].messages)


async def test_tools_of_clients_are_offered_where_somebody_can_answer(world: World) -> None:
    """Those of the installation, to all answers but unattended ones."""
    pick = client_tool("pick", "Pick.", CITY, title="Pick a city")
    world.tools["pick"] = pick  # type: ignore[assignment]
    provider = Turns(calls(("pick", '{"city": "Oslo"}')), says("There."))
    row = await runs(world, provider, await posted(world))
    (part,) = call_parts(await world.logged(row))
    assert (row.status, part["state"], part["title"]) == (
        *("waiting", "awaiting_client", "Pick a city"),
    )
    provider = Turns(calls(("pick", '{"city": "Oslo"}')), says("Well."))
    row = await runs(world, provider, await posted(world, ToolChoices(unattended=True)))
    assert (row.status, offered(provider)) == ("complete", [[]])


async def test_a_client_does_not_get_arguments_that_do_not_fit(world: World) -> None:
    """The model gets them back, with what is wrong."""
    provider = Turns(calls(("pick", '{"city": 5}')), says("Sorry."))
    row = await runs(world, provider, await posted(world, ToolChoices(own=[own()])))
    (part,) = call_parts(await world.logged(row))
    assert (row.status, row.waits, part["state"]) == ("complete", 0, "failed")
    assert "city: must be a string" in part["error"]


# --- tools of the program that asks ---


async def test_an_answer_ends_with_calls_of_the_program_that_asks(world: World) -> None:
    """Tools of the server in the same turn run first. What the provider calls the end is `stop`."""
    ran = offer(world)
    turn = calls(("pick", '{"city": 5}'), ("add", "{}"))
    turn[-1] = says("")[-1]
    provider = Turns(turn)
    choices = ToolChoices(own=[own(runs_at="caller")])
    row = await runs(world, provider, await posted(world, choices))
    assert (row.status, row.finish_reason, ran) == ("complete", "tool_calls", ["add"])
    mine, theirs = call_parts(await world.logged(row))
    assert (mine["state"], mine["runs_at"]) == ("proposed", "caller")
    assert (theirs["state"], theirs["result"]) == ("done", 3)
    assert [each.state for each in await world.calls(row)] == ["proposed", "done"]
    assert len(provider.asked) == 1


async def test_an_approval_comes_before_that_end(world: World) -> None:
    """The answer waits beside a call that nobody here executes."""
    ran = offer(world)
    turn = calls(("pick", '{"city": "Oslo"}'), ("pay", "{}"))
    choices = ToolChoices(own=[own(runs_at="caller")])
    provider = Turns(turn, says("never"))
    row = await runs(world, provider, await posted(world, choices))
    assert (row.status, ran) == ("waiting", [])
    await world.store.decide(row.id, 1, "me", Decision("approve"))
    row = await runs(world, provider, row)
    assert (row.status, row.finish_reason, ran) == ("complete", "tool_calls", ["pay"])
    assert [part["state"] for part in call_parts(await world.logged(row))] == ["proposed", "done"]
    assert len(provider.asked) == 1


async def test_a_worker_that_dies_before_that_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one ends the answer in the same way, and asks nobody."""
    provider = Turns(calls(("pick", '{"city": "Oslo"}')), says("never"))
    row = await posted(world, ToolChoices(own=[own(runs_at="caller")]))
    with monkeypatch.context() as killed:
        killed.setattr(type(world.store), "finish", killed_process)
        job = asyncio.create_task(world.runner(provider).generate(row.id))
        await asyncio.gather(job, return_exceptions=True)
    await asyncio.sleep(0.3)  # its lease expires
    assert (await world.row(row)).status == "streaming"
    row = await runs(world, provider, row)
    assert (row.status, row.finish_reason) == ("complete", "tool_calls")
    assert [part["state"] for part in call_parts(await world.logged(row))] == ["proposed"]
    assert len(provider.asked) == 1
