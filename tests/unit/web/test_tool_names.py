"""A tool of a request that has the name of a tool of the server: each entry refuses it when the
request arrives, as far as workers have reported their tools.
"""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.unit.web.conftest import MakeApp, RecordedJobs
from tests.unit.web.openai.test_tools import FLAT, SERVER
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import Catalogue, parse

NAME = "weather"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
OWN = {"name": NAME, "description": "", "parameters": CITY}
WORDS = f"a tool of the server is called {NAME}"


@pytest.fixture
def catalogue() -> Catalogue:
    """`narrow` may use another tool; `pick` is a client tool of the installation."""
    models = {"demo": {"provider": "demo"}, "narrow": {"provider": "demo", "tools": ["add"]}}
    pick = {"client": True, "description": "Pick.", "parameters": CITY}
    return parse({"models": models, "tools": {"pick": pick}}, {})


@pytest.fixture
def app(make_app: MakeApp) -> FastAPI:
    """A process that has read what workers report."""
    made = make_app()
    made.state.services.offers.note_tools({NAME: False, "show": True})
    return made


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://chat.example:8000"
    )


async def posted(client: httpx.AsyncClient, brought: Any, **conversation: Any) -> httpx.Response:
    made = (await client.post("/api/conversations", json=conversation)).json()["id"]
    path = f"/api/conversations/{made}/messages"
    return await client.post(path, json={"content": "hi", "tools": brought})


async def test_a_post_is_refused(
    client: httpx.AsyncClient, store: Store, jobs: RecordedJobs
) -> None:
    """With the place and the name; also a client tool of the installation has its name."""
    for name in (NAME, "show", "pick"):
        refused = await posted(client, {"client": [OWN | {"name": name}]})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
        [error] = refused.json()["errors"]
        assert error["field"] == "body.tools.client.0.name"
        assert error["message"] == f"a tool of the server is called {name}"
    assert jobs.enqueued == []


async def test_a_tool_that_is_left_out_leaves_its_name(client: httpx.AsyncClient) -> None:
    """By the conversation, the model's entry or the post itself."""
    own = {"client": [OWN]}
    assert (await posted(client, own, tools=["add"])).status_code == 202
    assert (await posted(client, own, model="narrow")).status_code == 202
    assert (await posted(client, {"use": ["add"], **own})).status_code == 202
    assert (await posted(client, {"client": [OWN | {"name": "other"}]})).status_code == 202


async def test_a_chat_is_refused(client: httpx.AsyncClient, jobs: RecordedJobs) -> None:
    """Nothing is stored."""
    body = {
        "id": "chat",
        "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}],
        "trigger": "submit-message",
    }
    tools = {"tools": {NAME: {"parameters": CITY}}}
    refused = await client.post("/api/chat", json=body | tools)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert refused.json()["errors"] == [{"field": "body.tools.0.name", "message": WORDS}]
    assert jobs.enqueued == []


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/chat/completions"])
async def test_a_request_of_an_openai_client_is_refused(
    client: httpx.AsyncClient, jobs: RecordedJobs, path: str
) -> None:
    """If it wants that tool of the server, too; else its function may have any name."""
    asked: Any = {"input": "hi"} if "responses" in path else {}
    asked |= {} if asked else {"messages": [{"role": "user", "content": "hi"}]}
    asked |= {"model": "demo", "background": "responses" in path}
    refused = await client.post(path, json=asked | {"tools": [FLAT, SERVER]})
    assert refused.status_code == 400, refused.text
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("invalid_value", "tools")
    assert WORDS in error["message"]
    assert jobs.enqueued == []
    if "responses" in path:
        only_own = await client.post(path, json=asked | {"tools": [FLAT]})
        assert only_own.status_code == 200, only_own.text
