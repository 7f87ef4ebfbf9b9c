"""Whole answers with tools, approval and documents, by servers of other makers: aimock in all five
dialects, and a real llama.cpp with a real model.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.integration.attempt.test_calls import World, call_parts
from tests.integration.providers.test_foreign_servers import llama, specs
from tests.servers import aimock
from tokenwire.config.terms import ToolTerms
from tokenwire.models.call_states import Decision
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.models.tool_choices import ToolChoices
from tokenwire.protocol.fold import Answer
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider
from tokenwire.tools import ToolContext, tool

LEADS = ("Repeat:", "Say", "Repeat", "Write", "Copy", "Print", "Echo", "Call", "Answer", "Return")
"""What a small model follows or not, each time by itself; it depends on the machine."""

DOCUMENT = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
FIXTURES: list[dict[str, Any]] = [
    {
        "match": {"userMessage": "invoice", "toolResultContains": "paid 1200"},
        "response": {"content": "The invoice is paid."},
    },
    {
        "match": {"userMessage": "invoice", "toolResultContains": "12 euros"},
        "response": {"toolCalls": [{"name": "pay", "arguments": '{"cents": 1200}'}]},
    },
    {
        "match": {"userMessage": "invoice"},
        "response": {
            "toolCalls": [
                {"name": "read_invoice", "arguments": '{"number": "seven"}'},
                {"name": "read_invoice", "arguments": '{"number": 7}'},
            ]
        },
    },
    {"match": {"userMessage": "sum"}, "response": {"content": '{"sum": 3}'}},
]


@pytest.fixture
async def world(sqlite_store: Store) -> AsyncIterator[World]:
    world = World(sqlite_store)
    yield world
    for box in world.boxes:
        await box.aclose()


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.aclose()


async def post(world: World, content: str, **more: Any) -> Row:
    conversation = await world.store.create_conversation("me")
    posted = await world.store.post(Post(conversation.id, "me", content, "m", **more))
    return posted.assistant_message


@pytest.mark.usefixtures("aimock_installed")
async def test_every_dialect_calls_tools_and_waits_for_approval(
    world: World, client: HttpClient
) -> None:
    """A round of two calls, one with bad arguments; a call that a person approves; the answer.

    The server's second and third answers depend on the results that it gets back.
    """
    runs: list[tuple[str, str]] = []

    @tool
    def read_invoice(context: ToolContext, number: int) -> str:
        """Read an invoice."""
        runs.append(("read", context.key))
        return f"Invoice {number}: 12 euros"

    @tool(approve=True)
    def pay(context: ToolContext, cents: int) -> str:
        """Pay."""
        runs.append(("pay", context.key))
        return f"paid {cents}"

    world.offers(read_invoice, pay)
    with aimock.start(FIXTURES) as url:
        for spec in specs(url):
            runs.clear()
            provider: Any = open_provider(spec, client)
            row = await world.runs(provider, await post(world, "Pay the invoice."))
            assert (row.status, [name for name, _ in runs]) == ("waiting", ["read"]), spec.provider
            states = [each["state"] for each in call_parts(await world.logged(row))]
            assert states == ["failed", "done", "awaiting_approval"], spec.provider
            number = max(call.number for call in await world.calls(row))
            await world.store.decide(row.id, number, "me", Decision("approve"))
            row = await world.runs(provider, row)
            assert (row.status, row.content) == ("complete", "The invoice is paid."), spec.provider
            assert [name for name, _ in runs] == ["read", "pay"], spec.provider


@pytest.mark.usefixtures("aimock_installed")
async def test_every_dialect_writes_a_document(world: World, client: HttpClient) -> None:
    """It is checked, and stored as JSON."""
    with aimock.start(FIXTURES) as url:
        for spec in specs(url):
            provider: Any = open_provider(spec, client)
            posted = await post(world, "The sum of 1 and 2?", response_schema=DOCUMENT)
            row = await world.runs(provider, posted)
            assert (row.status, row.object) == ("complete", {"sum": 3}), spec.provider


async def test_a_real_model_calls_a_tool(
    world: World, client: HttpClient, llamacpp_url: str
) -> None:
    """A small model needs to be led. Each call runs once, and the model gets the results.

    In the three dialects that llama.cpp has.
    """
    runs: list[tuple[str, str]] = []

    @tool
    def weather(context: ToolContext, city: str) -> str:
        """The weather in a city."""
        runs.append((context.key, city))
        return f"It is cold in {city}."

    async def answers(provider: Any, question: str) -> Answer:
        runs.clear()
        must, options = ToolChoices(choice="required"), {"max_tokens": 100, "temperature": 0.0}
        posted = await post(world, question, tools=must, options=options)
        return await world.logged(await world.runs(provider, posted))

    world.offers(weather)
    world.terms = ToolTerms(max_tool_rounds=2)
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    for api in ("openai.chat", "openai.responses", "anthropic.messages"):
        provider: Any = open_provider(llama(llamacpp_url, api=api), client)
        for lead in LEADS:
            answer = await answers(provider, f"{lead} {call}")
            if runs and answer.status == "complete":  # the server may refuse its model's call
                break
        done = [each for each in call_parts(answer) if each["state"] == "done"]
        assert len(done) == len({key for key, _ in runs}) == len(runs) >= 1, (api, done, runs)
        assert {each["result"] for each in done} == {f"It is cold in {city}." for _, city in runs}
        assert "step" in [part.type for part in answer.parts], api


async def test_a_real_model_writes_a_document(
    world: World, client: HttpClient, llamacpp_url: str
) -> None:
    """The server holds the model to the schema, and the check agrees."""
    provider: Any = open_provider(llama(llamacpp_url), client)
    posted = await post(
        world,
        "What is the sum of 1 and 2?",
        response_schema=DOCUMENT | {"additionalProperties": False},
        options={"max_tokens": 200, "temperature": 0.0},
    )
    row = await world.runs(provider, posted)
    assert row.status == "complete", row.error
    assert isinstance(row.object["sum"], int)
    assert json.loads(row.content) == row.object
