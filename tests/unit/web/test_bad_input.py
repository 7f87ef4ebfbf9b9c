"""Every bad request gets its documented answer: a problem document with a stable code and no
internals.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from tests.poison import unreadable
from tests.unit.web.api.test_conversations import begin
from tests.unit.web.conftest import TOKEN_KEY, MakeClient
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import Page
from tokenwire.web.problems import CODES

C = "/api/conversations"
KNOWN = ("title", "content", "user_id")
HUGE = "x" * (256 * 1024 + 1)


def check(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document, checked for its form."""
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    document = dict(answer.json())
    assert (document["type"], document["status"], document["code"]) == ("about:blank", status, code)
    assert document["title"]
    assert document["detail"]
    return document


@pytest.fixture
async def address(client: httpx.AsyncClient) -> str:
    return f"{C}/{(await begin(client))['id']}"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"content":',
        b"hello",
        b"\xff\xfe",
        b'{"a":1}}',
        b"[" * 100_000,
        b'{"content":"\xc3"}',
    ],
)
async def test_malformed_json(client: httpx.AsyncClient, address: str, body: bytes) -> None:
    """400 on every route with a body."""
    for method, path in (
        ("POST", C),
        ("PATCH", address),
        ("POST", f"{address}/messages"),
        ("POST", f"{address}/participants"),
    ):
        answer = await client.request(method, path, content=body)
        assert answer.status_code == 400, answer.text
        check(answer, 400, answer.json()["code"])
        assert answer.json()["code"] in ("malformed_json", "bad_request")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"content": None},
        {"content": ""},
        {"content": " \n\t "},
        {"content": 5},
        {"content": ["hi"]},
        {"content": "hi", "attachments": [{"id": "a"}]},
        {"content": "hi", "tools": [{}]},
        {"content": "hi", "schema": []},
        {"content": "hi", "schema": {"type": 5}},
        [],
        "hi",
        None,
        5,
    ],
)
async def test_an_invalid_message(client: httpx.AsyncClient, address: str, body: Any) -> None:
    """422 that names each field and quotes no input; nothing is stored."""
    document = check(await client.post(f"{address}/messages", json=body), 422, "invalid")
    assert document["errors"][0]["field"].startswith("body")
    assert (await client.get(address)).json()["messages"] == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", C, {"title": ""}),
        ("POST", C, {"title": "x" * 201}),
        ("POST", C, {"title": 5}),
        ("POST", C, {"model": ""}),
        ("POST", C, {"instructions": "x" * 40_000}),
        ("POST", C, []),
        ("PATCH", "{address}", {"title": None}),
        ("PATCH", "{address}", {"title": "  "}),
        ("PATCH", "{address}", None),
        ("POST", "{address}/participants", {}),
        ("POST", "{address}/participants", {"user_id": ""}),
        ("POST", "{address}/participants", {"user_id": "x" * 256}),
        ("GET", f"{C}?limit=0", None),
        ("GET", f"{C}?limit=201", None),
        ("GET", f"{C}?limit=ten", None),
        ("GET", f"{C}?before=yesterday", None),
        ("GET", f"{C}?before=%00", None),
        ("GET", "{address}?limit=0", None),
        ("GET", "{address}?before=0", None),
        ("GET", "{address}?before=99999999999999999999", None),
        ("GET", "{address}?before=x", None),
    ],
)
async def test_invalid_values(
    client: httpx.AsyncClient, address: str, method: str, path: str, body: Any
) -> None:
    """422 with the list of mistakes."""
    answer = await client.request(
        method, path.format(address=address), **({} if method == "GET" else {"json": body})
    )
    assert check(answer, 422, "invalid")["errors"]


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9"])
async def test_an_unusable_idempotency_key(client: httpx.AsyncClient, key: str) -> None:
    """422 that names the header."""
    document = check(
        await client.post(C, json={}, headers={"Idempotency-Key": key.encode("latin-1")}),
        422,
        "invalid",
    )
    assert document["errors"][0]["field"] == "header.idempotency-key"


@pytest.mark.parametrize("name", ["nobody", "keyless", "x" * 255, "\ud800", "a\x00"])
async def test_an_unknown_model_lists_the_offered_ones(
    client: httpx.AsyncClient, address: str, name: str
) -> None:
    """A model whose key is not set counts as unknown: asking again does not help."""
    body = json.dumps({"model": name})
    for method, path in (("POST", C), ("PATCH", address)):
        document = check(await client.request(method, path, content=body), 422, "unknown_model")
        assert document["offered"] == ["demo", "second"]


async def test_a_model_whose_server_is_away_is_503(
    client: httpx.AsyncClient, address: str, store: Store
) -> None:
    """Wherever a model is named or the conversation's own is used; Retry-After names the next
    probe.
    """
    body = json.dumps({"model": "nearby"})
    answers = [
        await client.request(method, path, content=body)
        for method, path in (("POST", C), ("PATCH", address))
    ]
    await store.change_conversation(address.rpartition("/")[2], "local", {"model": "nearby"})
    answers.append(await client.post(f"{address}/messages", json={"content": "hi"}))
    answers.append(await client.post("/api/completion", json={"prompt": "hi", "model": "nearby"}))
    for answer in answers:
        assert check(answer, 503, "model_unavailable")["offered"] == ["demo", "second"]
        assert answer.headers["retry-after"] == "5"


async def test_a_removed_model_refuses_posts(
    client: httpx.AsyncClient, address: str, store: Store
) -> None:
    """The conversation names it; the refusal lists the models on offer."""
    await store.change_conversation(address.rpartition("/")[2], "local", {"model": "keyless"})
    document = check(
        await client.post(f"{address}/messages", json={"content": "hi"}), 422, "unknown_model"
    )
    assert document["offered"] == ["demo", "second"]


async def test_content_that_is_too_long(client: httpx.AsyncClient, address: str) -> None:
    """The limit counts bytes of UTF-8: 413. The longest allowed text passes, however JSON escapes
    it.
    """
    check(
        await client.post(f"{address}/messages", json={"content": HUGE}), 413, "content_too_large"
    )
    check(
        await client.post(f"{address}/messages", json={"content": "é" * (128 * 1024 + 1)}),
        413,
        "content_too_large",
    )
    allowed = json.dumps({"content": "\U0001f600" * (64 * 1024)}, ensure_ascii=True)
    assert (await client.post(f"{address}/messages", content=allowed)).status_code == 202


async def test_a_body_that_is_too_long_is_not_read(client: httpx.AsyncClient, address: str) -> None:
    """413 during the read, whatever length was announced; the rest stays unread."""
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(10_000):
            given += 1
            yield b" " * 65_536

    check(await client.post(f"{address}/messages", content=endless()), 413, "body_too_large")
    assert given < 20
    answer = await client.post(
        f"{address}/messages", content=b"{}", headers={"Content-Length": "9" * 12}
    )
    check(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/api",
        "/api/",
        f"{C}/",
        "/api/nope",
        "/docs",
        "/static/nope.js",
        "/static/../app.py",
        "/%00",
    ],
)
async def test_unknown_addresses(client: httpx.AsyncClient, path: str) -> None:
    """404, without redirects."""
    check(await client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", C, "GET, POST"),
        ("DELETE", C, "GET, POST"),
        ("PUT", f"{C}/x", "DELETE, GET, PATCH"),
        ("PATCH", f"{C}/x/participants", "GET, POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("GET", "/api/messages/x/cancel", "POST"),
        ("POST", "/static/app.js", "GET, HEAD"),
        ("DELETE", "/api/chat/x/stop", "POST"),
    ],
)
async def test_unsupported_methods(
    client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    """405 that lists the methods of all matching routes."""
    answer = await client.request(method, path)
    check(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


async def test_unsupported_methods_under_v1(client: httpx.AsyncClient) -> None:
    """In OpenAI's form."""
    for method, path, allowed in (
        ("PUT", "/v1/responses", "POST"),
        ("PATCH", "/v1/responses/resp_x", "DELETE, GET"),
        ("POST", "/v1/models/demo", "GET"),
    ):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] == allowed
    assert (await client.put("/v1/nothing")).status_code == 404


async def test_an_unknown_field_is_refused(client: httpx.AsyncClient, address: str) -> None:
    """422 that names it: a misspelt field must not be lost silently."""
    for method, path, body in (
        ("POST", C, {"titel": "T"}),
        ("PATCH", address, {"title": "T", "Model": "demo"}),
        ("POST", f"{address}/messages", {"content": "hi", "stream": True}),
        ("POST", f"{address}/participants", {"user_id": "ada", "role": "owner"}),
    ):
        document = check(await client.request(method, path, json=body), 422, "invalid")
        assert [error["field"] for error in document["errors"]] == [
            f"body.{next(name for name in body if name not in KNOWN)}"
        ]


@pytest.mark.parametrize("host", ["[", "a b", "[::1", "\xff", ""])
async def test_an_invalid_host(client: httpx.AsyncClient, address: str, host: str) -> None:
    """It is no name of this server."""
    answer = await client.post(f"{address}/subscription", headers={"Host": host.encode("latin-1")})
    check(answer, 421, "unknown_host")


async def test_a_post_that_is_refused_for_its_host_stores_nothing(
    client: httpx.AsyncClient, address: str
) -> None:
    """The answer could not name a broadcaster. A client that repeats the post with a better header
    does not post twice.
    """
    check(
        await client.post(f"{address}/messages", json={"content": "hi"}, headers={"Host": "["}),
        421,
        "unknown_host",
    )
    assert (await client.get(address)).json()["messages"] == []


class AwayStore(Store):
    """A store whose database is away."""

    def reading(self) -> Any:
        raise StoreUnavailable("away")

    writing = reading


async def test_without_the_database(make_client: MakeClient, store: Store) -> None:
    """503 with Retry-After, and nothing of the database's own error."""
    async with make_client() as client:
        transport: Any = client._transport
        transport.app.state.services.store.__class__ = AwayStore
        posted = {"json": {"content": "hi"}}
        asked = [
            ("GET", C, {}),
            ("POST", C, {}),
            ("GET", f"{C}/a", {}),
            ("POST", f"{C}/a/messages", posted),
            ("POST", "/api/messages/a/cancel", {}),
        ]
        for method, path, body in asked:
            answer = await client.request(method, path, **body)
            check(answer, 503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert "away" not in answer.text
        store.__class__ = Store


async def test_with_a_damaged_row(make_client: MakeClient, store: Store) -> None:
    """A code of its own, on the conversation and the response: neither a bug nor an outage."""
    async with make_client() as client:
        made = await begin(client)
        answer = (await client.post(f"{C}/{made['id']}/messages", json={"content": "hi"})).json()[
            "assistant_message"
        ]["id"]
        await unreadable(store, answer)
        with capture_logs() as lines:
            refused = await client.get(f"{C}/{made['id']}")
            response = await client.get(f"/v1/responses/resp_{answer}")
    assert "again does not help" in check(refused, 500, "damaged")["detail"]
    assert (
        response.status_code,
        response.json()["error"]["code"],
        response.headers["x-should-retry"],
    ) == (500, "damaged", "false")
    assert [(line["log_level"], line["path"]) for line in lines] == [
        ("error", f"{C}/{made['id']}"),
        ("error", f"/v1/responses/resp_{answer}"),
    ]


async def test_a_bug_shows_no_details(
    make_client: MakeClient, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 without detail; the log has all of it."""

    async def broken(*_arguments: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(log, "read", broken)
    async with make_client() as client:
        made = await begin(client)
        with capture_logs() as lines:
            answer = await client.get(f"{C}/{made['id']}")
    check(answer, 500, "internal")
    assert [(line["log_level"], line["path"], repr(line["exc_info"])) for line in lines] == [
        ("error", f"{C}/{made['id']}", "RuntimeError('secret')")
    ]
    assert "secret" not in answer.text
    assert "content-security-policy" in answer.headers


async def test_every_refusal_has_a_registered_code(make_app: Any) -> None:
    """OpenAPI names only codes of the registry, with their status."""
    app: FastAPI = make_app()
    for path, operations in app.openapi()["paths"].items():
        for operation in (
            () if path.startswith("/v1") else operations.values()
        ):  # OpenAI's form applies there
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    for code in answer["description"].split(", "):
                        assert CODES[code] == int(status)


def test_the_token_key_is_not_shown(make_app: Any) -> None:
    """A traceback with variables may show the services but not their secret."""
    assert TOKEN_KEY not in repr(make_app().state.services)


async def test_an_invented_id_creates_no_log(
    client: httpx.AsyncClient, log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a log creates it, and Redis keeps it for a day. So participation is checked first."""
    looked: list[str] = []
    read = log.read

    async def seen(conversation_id: str, *rest: Any) -> Page:
        looked.append(conversation_id)
        return await read(conversation_id, *rest)

    monkeypatch.setattr(log, "read", seen)
    check(await client.get(f"{C}/nobody"), 404, "not_found")
    check(await client.post(f"{C}/nobody/messages", json={"content": "hi"}), 404, "not_found")
    assert looked == []


async def test_the_list_of_mistakes_is_bounded(client: httpx.AsyncClient) -> None:
    """A list of them all would be longer than the request."""
    many = {f"x{number}": 0 for number in range(5000)}
    assert check(await client.post("/api/conversations", json=many), 422, "invalid")["errors"] == []
    few = {f"x{number}": 0 for number in range(50)}
    assert (
        len(check(await client.post("/api/conversations", json=few), 422, "invalid")["errors"])
        == 20
    )
    for body in (
        {"metadata": many, "input": "hi"},
        {"input": [0] * 50_000},
        {"input": "hi"} | many,
    ):
        answer = await client.post("/v1/responses", json=body)
        assert answer.status_code in (400, 422)
        assert len(answer.content) < 500
