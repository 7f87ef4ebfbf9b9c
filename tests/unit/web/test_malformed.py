"""Every dialect refuses input that cannot be understood or stored, on both databases, without a
server error.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.web.conftest import RecordedJobs, settings
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import Catalogue
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.web.app import create_app

DEEP = "[" * 5000 + "]" * 5000
MESSAGE = {"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}

Bodies = list[tuple[str, str]]


@pytest.fixture
async def client(
    tmp_path: Path, database_url: str, log: MemoryLog, jobs: RecordedJobs, catalogue: Catalogue
) -> AsyncIterator[httpx.AsyncClient]:
    store = Store.open(database_url)
    recorder: Any = jobs
    app = create_app(settings(), store, log, MemoryPubSub(log), recorder, catalogue)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://localhost"
    ) as made:
        yield made
    await store.aclose()


def check_refusal(answer: httpx.Response, statuses: range = range(400, 500)) -> str:
    """The code of the refusal in any dialect."""
    assert answer.status_code in statuses, f"{answer.status_code} {answer.text[:300]}"
    document = answer.json()
    code = document["error"]["code"] if "error" in document else document["code"]
    assert code
    return str(code)


NOT_JSON: Bodies = [
    ("POST /api/conversations", '{"title": NaN}'),
    ("POST /api/conversations", '{"title": Infinity}'),
    ("POST /api/conversations", DEEP),
    ("POST /api/conversations/{id}/messages", '{"content": "hi", "attachments": -Infinity}'),
    ("POST /v1/responses", '{"input": "hi", "background": true, "temperature": NaN}'),
    (
        "POST /v1/responses",
        (
            '{"input": "hi", "background": true, "text": {"format": {"type": "json_schema", '
            '"schema": {"minimum": NaN}}}}'
        ),
    ),
    (
        "POST /v1/responses",
        (
            '{"input": "hi", "background": true, "text": {"format": {"type": "json_schema", '
            '"schema": {"minimum": 1e999}}}}'
        ),
    ),
    ("POST /v1/responses", '{"input": "hi", "background": true, "x": ' + DEEP + "}"),
    (
        "POST /v1/chat/completions",
        '{"messages": [{"role": "user", "content": "hi"}], "temperature": Infinity}',
    ),
    ("POST /api/chat", '{"id": "c", "messages": [], "x": NaN}'),
    ("POST /api/chat", '{"id": "c", "messages": ' + DEEP + "}"),
    ("POST /api/completion", '{"prompt": NaN}'),
    ("POST /api/object", "NaN"),
    ("POST /api/object", '{"a": 1e999}'),
    ("POST /api/object", DEEP),
]


@pytest.mark.sampled(10)
@pytest.mark.parametrize(("route", "body"), NOT_JSON)
async def test_invalid_json(client: httpx.AsyncClient, route: str, body: str) -> None:
    """NaN, infinities (also by overflow) and endless nesting: 400 `malformed_json`."""
    answer = await send(client, route, body)
    assert (answer.status_code, check_refusal(answer)) == (400, "malformed_json")


OTHER_TYPES: Bodies = [
    (
        "POST /v1/responses",
        '{"input": [{"role": "user", "content": [{"type": []}]}], "background": true}',
    ),
    (
        "POST /v1/responses",
        (
            '{"input": [{"role": "user", "content": [{"type": {}, "text": "hi"}]}], "background": '
            "true}"
        ),
    ),
    (
        "POST /v1/responses",
        '{"input": [{"type": [], "role": "user", "content": "hi"}], "background": true}',
    ),
    ("POST /v1/responses", '{"input": [{"role": [], "content": "hi"}], "background": true}'),
    ("POST /v1/responses", '{"input": [5], "background": true}'),
    ("POST /v1/responses", '{"input": [{"role": "user", "content": [[]]}], "background": true}'),
    ("POST /v1/responses", '{"input": "hi", "background": true, "text": 5}'),
    ("POST /v1/responses", '{"input": "hi", "background": true, "text": {"format": 5}}'),
    ("POST /v1/responses", '{"input": "hi", "background": true, "text": {"format": {"type": []}}}'),
    (
        "POST /v1/responses",
        (
            '{"input": "hi", "background": true, "text": {"format": {"type": "json_schema", '
            '"schema": 5}}}'
        ),
    ),
    (
        "POST /v1/responses",
        (
            '{"input": "hi", "background": true, "text": {"format": {"type": "json_schema", '
            '"json_schema": 5}}}'
        ),
    ),
    (
        "POST /v1/responses",
        '{"input": "hi", "background": true, "max_output_tokens": 99999999999999999999999}',
    ),
    (
        "POST /v1/responses",
        '{"input": "hi", "background": true, "previous_response_id": "resp_\\u0000"}',
    ),
    (
        "POST /v1/responses",
        '{"input": "hi", "background": true, "previous_response_id": "\\ud800"}',
    ),
    ("POST /v1/responses", '{"input": "hi", "background": true, "model": "\\ud800"}'),
    (
        "POST /v1/chat/completions",
        (
            '{"messages": [{"role": "user", "content": "hi"}], "response_format": {"type": '
            '"json_schema", "json_schema": 5}}'
        ),
    ),
    (
        "POST /v1/chat/completions",
        '{"messages": [{"role": "user", "content": "hi"}], "response_format": {"type": {}}}',
    ),
    ("POST /v1/chat/completions", '{"messages": [{"role": "user", "content": [{"type": []}]}]}'),
    (
        "POST /v1/chat/completions",
        '{"messages": [{"role": "user", "content": "hi"}], "n": [], "model": []}',
    ),
    ("POST /api/chat", '{"id": "c\\u0000", "messages": []}'),
    ("POST /api/chat", '{"id": "\\ud800", "messages": []}'),
    ("POST /api/chat", '{"id": 5, "messages": []}'),
    (
        "POST /api/chat",
        '{"id": "c", "messages": [{"id": "m", "role": "user", "parts": [{"type": []}]}]}',
    ),
    (
        "POST /api/chat",
        (
            '{"id": "c", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", '
            '"text": {}}]}]}'
        ),
    ),
    (
        "POST /api/chat",
        '{"id": "c", "model": "\\ud800", "messages": [' + json.dumps(MESSAGE) + "]}",
    ),
    ("POST /api/conversations/{id}/participants", '{"user_id": "\\u0000"}'),
    ("POST /api/conversations/{id}/participants", '{"user_id": "\\ud800"}'),
]


@pytest.mark.sampled(20)
@pytest.mark.parametrize(("route", "body"), OTHER_TYPES)
async def test_other_types_and_ids_that_cannot_be_stored(
    client: httpx.AsyncClient, route: str, body: str
) -> None:
    """A 4xx with a code."""
    check_refusal(await send(client, route, body))


STORED: Bodies = [
    ("POST /api/conversations", '{"title": "a\\ud800b\\u0000", "instructions": "\\udfff"}'),
    (
        "POST /v1/responses",
        (
            '{"input": "a\\ud800", "background": true, "instructions": "\\u0000", "metadata": '
            '{"\\u0000": "\\ud800"}}'
        ),
    ),
    (
        "POST /v1/responses",
        (
            '{"input": "hi", "background": true, "text": {"format": '
            '{"type": "json_schema", "name": '
            '"x", "schema": {"\\u0000": "\\ud800"}}}}'
        ),
    ),
    (
        "POST /v1/responses",
        '{"input": "hi", "background": true, "user": 9999999999999999999999999}',
    ),
    (
        "POST /v1/responses",
        '{"input": "hi", "background": true, "text": {"format": {"type": "json_schema", '
        '"schema": {"const": 1' + "0" * 40 + "}}}}",
    ),
]


@pytest.mark.parametrize(("route", "body"), STORED)
async def test_text_that_cannot_be_stored_is_repaired(
    client: httpx.AsyncClient, route: str, body: str
) -> None:
    """Lone surrogates and U+0000 become U+FFFD everywhere, also in what is only stored (metadata,
    schemas).
    """
    answer = await send(client, route, body)
    assert answer.status_code in (200, 201), answer.text
    assert "\\ud800" not in answer.text.lower()
    assert "\\u0000" not in answer.text


@pytest.mark.sampled(10)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_%00"),
        ("GET", "/v1/responses/resp_%ff"),
        ("GET", "/v1/responses/chatcmpl-%00/input_items"),
        ("POST", "/v1/responses/resp_%00/cancel"),
        ("DELETE", "/v1/responses/resp_%00"),
        ("GET", "/v1/models/%00"),
        ("GET", "/v1/responses/resp_" + "x" * 300),
        ("GET", "/api/conversations/%00"),
        ("GET", "/api/chat/%00/stream"),
        ("GET", "/api/chat/%00/messages"),
        ("POST", "/api/chat/%00/stop"),
        ("GET", "/api/conversations?before=9999999999999999.%00"),
        ("GET", "/api/messages/%00/events"),
        ("GET", "/api/conversations/x/events?after=%00"),
        ("GET", "/api/conversations/x/events?after=a:99999999999999999999999999"),
    ],
)
async def test_addresses(client: httpx.AsyncClient, method: str, path: str) -> None:
    """An impossible id is not found, or invalid."""
    check_refusal(await client.request(method, path))


async def send(client: httpx.AsyncClient, route: str, body: str) -> httpx.Response:
    method, path = route.split(" ")
    if "{id}" in path:
        path = path.replace("{id}", (await client.post("/api/conversations", json={})).json()["id"])
    return await client.request(method, path, content=body.encode())


async def test_big_integers_in_a_cursor(client: httpx.AsyncClient) -> None:
    """No database holds its number."""
    answer = await client.get("/api/conversations?before=9999999999999999.a")
    assert answer.status_code in (200, 422)
