"""Which tools a post and a conversation name, tools of clients, the schema of a conversation."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

from tests.contracts.calls import call
from tests.contracts.test_calls import ending
from tests.rows import take_part
from tests.unit.web.api.test_calls import address as decision
from tests.unit.web.api.test_calls import local
from tests.unit.web.api.test_conversations import begin
from tests.unit.web.api.test_participants import People, let_in, people, told
from tests.unit.web.conftest import MakeApp, MakeClient, RecordedJobs
from tokenwire.client import Tokenwire
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import Catalogue, parse

__all__ = ["people"]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
PICK = {"name": "pick", "description": "Pick a place.", "parameters": CITY}
SCHEMA = {"type": "object", "required": ["city"]}


@pytest.fixture
def catalogue() -> Catalogue:
    """The model `second` may use one tool."""
    second = {"provider": "demo", "tools": ["add"]}
    return parse({"models": {"demo": {"provider": "demo"}, "second": second}}, {})


async def post(client: httpx.AsyncClient, conversation: str, **body: Any) -> httpx.Response:
    path = f"/api/conversations/{conversation}/messages"
    return await client.post(path, json={"content": "hi"} | body)


async def stored(store: Store, posted: httpx.Response) -> Any:
    assert posted.status_code == 202, posted.text
    return await store.message(posted.json()["assistant_message"]["id"])


def field(refused: httpx.Response, code: str = "invalid") -> str:
    assert (refused.status_code, refused.json()["code"]) == (422, code), refused.text
    return str(refused.json()["errors"][0]["field"])


# --- of a post ---


async def test_what_a_post_says_is_stored_with_its_answer(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Tools of the client are its own ones, which run there."""
    made = (await begin(client))["id"]
    tools = {"use": ["add"], "choice": {"name": "pick"}, "client": [PICK]}
    row = await stored(store, await post(client, made, tools=tools))
    own = [PICK | {"runs_at": "client"}]
    assert row.tools == {"use": ["add"], "choice": {"name": "pick"}, "own": own}
    again = await client.post(f"/api/messages/{row.id}/cancel")
    assert again.status_code == 202
    for nothing in ({}, {"tools": None}, {"tools": {}}, {"tools": {"client": []}}):
        assert (await stored(store, await post(client, made, **nothing))).tools is None


@pytest.mark.parametrize(
    ("tools", "place"),
    [
        ({"use": "add"}, "body.tools.use"),
        ({"use": ["a b"]}, "body.tools.use.0"),
        ({"own": []}, "body.tools.own"),
        ({"unattended": True}, "body.tools.unattended"),
        ({"client": [PICK | {"runs_at": "caller"}]}, "body.tools.client.0.runs_at"),
        ({"client": [PICK, PICK]}, "body.tools.client.1.name"),
        ({"client": [PICK], "use": ["pick"]}, "body.tools.client.0.name"),
        ({"client": [PICK | {"parameters": {}}]}, "body.tools.client.0.parameters"),
        (
            {"client": [PICK, {"name": "b", "parameters": {"type": "object", "$ref": "#"}}]},
            "body.tools.client.1.parameters",
        ),
        ({"client": [PICK], "use": [], "choice": {"name": "x"}}, "body.tools.choice.name"),
        ({"client": [PICK | {"name": str(n)} for n in range(65)]}, "body.tools.client"),
        ({"client": [PICK | {"description": "x" * 70_000}]}, "body.tools.client"),
    ],
)
async def test_tools_that_cannot_be_used_are_refused(
    client: httpx.AsyncClient, tools: Any, place: str, jobs: RecordedJobs
) -> None:
    """With their place, and nothing is stored."""
    made = (await begin(client))["id"]
    assert field(await post(client, made, tools=tools)) == place
    assert jobs.enqueued == []
    assert (await client.get(f"/api/conversations/{made}")).json()["messages"] == []


@pytest.mark.parametrize(
    "choice", ["any", 5, ["auto"], {}, {"name": 5}, {"name": "a b"}, {"name": "a", "x": 1}]
)
async def test_a_wrong_choice_gets_one_sentence(client: httpx.AsyncClient, choice: Any) -> None:
    """About the field: not one for each form that the choice may have."""
    refused = await post(client, (await begin(client))["id"], tools={"choice": choice})
    sentence = 'must be "auto", "none", "required" or {"name": "..."} with the name of a tool'
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"field": "body.tools.choice", "message": sentence}]
    assert refused.json()["detail"] == f"body.tools.choice: {sentence}"


async def test_the_limits_are_settings(make_client: MakeClient) -> None:
    """Also none at all."""
    async with make_client(max_request_tools=0) as client:
        made = (await begin(client))["id"]
        assert field(await post(client, made, tools={"client": [PICK]})) == "body.tools.client"
        assert (await post(client, made, tools={"use": ["add"]})).status_code == 202


async def test_a_name_that_is_left_out_is_refused(client: httpx.AsyncClient) -> None:
    """By the conversation, or by the catalogue's entry of its model."""
    narrow = (await begin(client, tools=["add", "sub"]))["id"]
    assert (await post(client, narrow, tools={"use": ["sub"]})).status_code == 202
    refused = await post(client, narrow, tools={"use": ["add", "pay"]})
    assert field(refused, "unknown_tool") == "body.tools.use"
    assert refused.json()["tool"] == "pay"
    second = (await begin(client, model="second"))["id"]
    assert (await post(client, second, tools={"use": ["add"]})).status_code == 202
    assert field(await post(client, second, tools={"use": ["sub"]}), "unknown_tool")


async def test_the_same_key_stands_for_the_same_tools(client: httpx.AsyncClient) -> None:
    """Other tools are another request."""
    made = (await begin(client))["id"]
    path, key = f"/api/conversations/{made}/messages", {"Idempotency-Key": "k"}
    bodies = ({"content": "hi"}, {"content": "hi", "tools": {"use": []}})
    first, other = [await client.post(path, json=body, headers=key) for body in bodies]
    assert (first.status_code, other.json()["code"]) == (202, "key_reused")


async def test_a_key_of_the_version_before_still_counts(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Its body had no tools and no schema. With them it is another one."""
    old = {"title": "T", "model": None, "instructions": None}
    key = Idempotency.of("k", "POST /api/conversations", old)
    first = await store.create_conversation("local", title="T", idempotency=key)
    headers = {"Idempotency-Key": "k"}
    bodies = (old, old | {"tools": None, "schema": None}, old | {"tools": []})
    made = [await client.post("/api/conversations", json=body, headers=headers) for body in bodies]
    assert [one.json().get("id") for one in made] == [first.id, first.id, None]
    assert made[2].json()["code"] == "key_reused"


# --- of a conversation ---


async def test_a_conversation_has_tools_and_a_schema(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Its answers take the schema over, unless their post has another one."""
    made = await begin(client, tools=["add"], schema=SCHEMA)
    assert (made["tools"], made["schema"]) == (["add"], SCHEMA)
    assert (await client.get(f"/api/conversations/{made['id']}")).json()["conversation"] == made
    row = await stored(store, await post(client, made["id"]))
    assert row.response_schema == SCHEMA
    other = await stored(store, await post(client, made["id"], schema={"type": "object"}))
    assert other.response_schema == {"type": "object"}
    path = f"/api/conversations/{made['id']}"
    changed = (await client.patch(path, json={"schema": None, "tools": []})).json()
    assert (changed["tools"], changed["schema"]) == ([], None)
    assert (await stored(store, await post(client, made["id"]))).response_schema is None
    changed = (await client.patch(path, json={"tools": None, "title": "T"})).json()
    assert (changed["tools"], changed["title"]) == (None, "T")


async def test_a_post_asks_for_no_schema(client: httpx.AsyncClient, store: Store) -> None:
    """In a conversation that has one; null and absent are two requests. An answer that is made
    again has none either.
    """
    made = (await begin(client, schema=SCHEMA))["id"]
    row = await stored(store, await post(client, made, schema=None))
    assert row.response_schema is None
    assert await store.begin_attempt(row.id, 1, "demo")
    assert await store.finish(ending(row.id))
    again = await client.post(f"/api/messages/{row.id}/regenerate")
    assert (await stored(store, again)).response_schema is None
    path, key = f"/api/conversations/{made}/messages", {"Idempotency-Key": "k"}
    bodies = ({"content": "hi"}, {"content": "hi", "schema": None})
    first, other = [await client.post(path, json=body, headers=key) for body in bodies]
    assert (first.status_code, other.json()["code"]) == (202, "key_reused")
    again = await client.post(path, json=bodies[0], headers=key)
    assert again.json()["assistant_message"]["id"] == first.json()["assistant_message"]["id"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({"tools": ["a b"]}, "body.tools.0"),
        ({"tools": "add"}, "body.tools"),
        ({"schema": {"type": 5}}, "body.schema"),
        ({"schema": []}, "body.schema"),
    ],
)
async def test_what_a_conversation_cannot_have_is_refused(
    client: httpx.AsyncClient, body: Any, place: str
) -> None:
    """When it begins, and when it is changed."""
    assert field(await client.post("/api/conversations", json=body)) == place
    made = await begin(client, title="T")
    path = f"/api/conversations/{made['id']}"
    assert field(await client.patch(path, json=body)) == place
    assert (await client.get(path)).json()["conversation"] == made


async def test_only_the_owner_changes_tools_and_schema(people: People) -> None:
    """As with instructions."""
    made = (await people["ada"].post("/api/conversations", json={"tools": ["add"]})).json()
    path = f"/api/conversations/{made['id']}"
    await let_in(people, path, "bob")
    for body in ({"tools": None}, {"schema": SCHEMA}, {"title": "T", "tools": []}):
        assert told(await people["bob"].patch(path, json=body)) == (403, "not_owner")
    assert (await people["ada"].get(path)).json()["conversation"]["tools"] == ["add"]


# --- the result of a client ---


async def test_a_client_answers_a_call_once(
    client: httpx.AsyncClient, store: Store, jobs: RecordedJobs
) -> None:
    """Of two tabs, one is told what the other has answered. The answer continues."""
    answer = await local(store, call(0, "awaiting_client"))
    bodies = [{"decision": "result", "result": {"n": n}} for n in range(2)]
    given = await asyncio.gather(*(client.post(decision(answer), json=body) for body in bodies))
    assert sorted(one.status_code for one in given) == [200, 409]
    [won] = [one.json() for one in given if one.status_code == 200]
    [lost] = [one.json() for one in given if one.status_code == 409]
    assert (lost["code"], lost["call"]) == ("already_decided", won["call"])
    assert won["call"]["state"] == "done"
    assert jobs.enqueued == [answer.id]
    failed = {"decision": "error", "reason": "No."}
    assert (await client.post(decision(answer), json=failed)).json()["code"] == "already_decided"


async def test_a_client_says_that_it_failed(client: httpx.AsyncClient, store: Store) -> None:
    """In a sentence for the model. An approval is no answer to a client's call."""
    answer = await local(store, call(0, "awaiting_client"))
    refused = await client.post(decision(answer), json={"decision": "approve"})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_awaited")
    failed = {"decision": "error", "reason": "There is no map here."}
    found = (await client.post(decision(answer), json=failed)).json()["call"]
    assert (found["state"], found["error"]) == ("failed", "There is no map here.")


async def test_nobody_else_answers_a_clients_call(client: httpx.AsyncClient, store: Store) -> None:
    """A participant who did not ask gets 403, a stranger 404."""
    answer = await local(store, call(0, "awaiting_client"))
    async with store.writing() as session:
        row = await session.get_one(type(await answer.row()), answer.id)
        asker = await session.get_one(type(row), row.parent_id)
        asker.user_id = "somebody"
    body = {"decision": "result", "result": 1}
    refused = await client.post(decision(answer), json=body)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_decider")
    await store.remove_participant(answer.conversation_id, "local")
    assert (await client.post(decision(answer), json=body)).status_code == 404
    await take_part(store, answer.conversation_id, "local")
    assert (await client.post(decision(answer), json=body)).status_code == 403
    assert await answer.states() == ["awaiting_client"]


# --- the Python client ---


@pytest.fixture
async def remote(make_app: MakeApp) -> AsyncIterator[Tokenwire]:
    transport = httpx.ASGITransport(make_app())
    async with Tokenwire("http://chat.example:8000", transport=transport) as made:
        yield made


class Place(BaseModel):
    city: str


async def test_the_python_client_sends_schemas_and_tools(remote: Tokenwire, store: Store) -> None:
    """A pydantic model gives its schema."""
    made = await remote.create(tools=["add"], schema=Place)
    assert (await made.read())["conversation"]["schema"] == Place.model_json_schema()
    posted = await made.post("hi", schema={"type": "object"}, tools={"client": [PICK]})
    row = await store.message(posted.assistant_message.id)
    assert row is not None
    assert row.response_schema == {"type": "object"}
    assert row.tools == {"own": [PICK | {"runs_at": "client"}]}
    for wanted, kept in ((None, Place.model_json_schema()), (False, None)):
        posted = await made.post("hi", schema=wanted)
        row = await store.message(posted.assistant_message.id)
        assert row is not None
        assert row.response_schema == kept
    changed = await made.change(schema=None, tools=None)
    assert (changed["schema"], changed["tools"]) == (None, None)
    assert (await made.change(schema=Place))["schema"] == Place.model_json_schema()


async def test_the_python_client_executes_calls(remote: Tokenwire, store: Store) -> None:
    """Functions, async or not; the model reads what they raise. Others' calls are left alone."""
    waits = [call(number, "awaiting_client") for number in range(2)]
    answer = await local(store, *waits, call(2, "awaiting_approval"))
    seen: list[int] = []

    async def pay(euros: int) -> dict[str, int]:
        if seen:
            raise ValueError("No more money.")
        seen.append(euros)
        return {"paid": euros}

    assert await remote.answer_calls(answer.id, {}) == []
    assert await remote.answer_calls(answer.id, {"pay": pay}) == ["pay", "pay"]
    first, second, third = await store.calls_of(answer.id)
    assert (first.state, first.result, seen) == ("done", {"paid": 5}, [5])
    assert (second.state, second.error) == ("failed", "No more money.")
    assert third.state == "awaiting_approval"
    assert await remote.answer_calls(answer.id, {"pay": pay}) == []


async def test_the_python_client_loses_a_race(remote: Tokenwire, store: Store) -> None:
    """Another client has answered the call while this one executed it."""
    answer = await local(store, call(0, "awaiting_client"))

    async def pay(euros: int) -> int:
        await remote.decide(answer.id, 0, "result", result="theirs")
        return euros

    assert await remote.answer_calls(answer.id, {"pay": pay}) == ["pay"]
    (row,) = await store.calls_of(answer.id)
    assert row.result == "theirs"
