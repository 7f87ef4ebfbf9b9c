"""Refusals of the chat routes, and their effects in the store. tests/integration tests the streams
over real connections.
"""

import json
from typing import Any

import httpx
import pytest

from tests.unit.web.conftest import MakeClient
from tokenwire.models.store import Store
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.web.aisdk.requests import InputLimits, parse_chat

TEXT = [{"type": "text", "text": "hi"}]


def body(**changes: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "trigger": "submit-message",
        "messages": [{"id": "m", "role": "user", "parts": TEXT}],
    } | changes


def message(**changes: Any) -> dict[str, Any]:
    return body(messages=[{"id": "m", "role": "user", "parts": TEXT} | changes])


async def refused(
    client: httpx.AsyncClient, sent: object, code: str, **headers: str
) -> dict[str, Any]:
    content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    answer = await client.post("/api/chat", content=content, headers=headers)
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.json()["code"] == code, answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        "text",
        {},
        body(id=""),
        body(id=7),
        body(id="x" * 256),
        body(id="a\u0000b"),
        body(messages=None),
        body(messages={}),
        body(messages=[]),
        body(messages=["text"]),
        body(messages=[{"role": "user", "content": "hi"}]),
        body(messages=[{"role": "robot", "parts": TEXT}]),
        message(parts=[]),
        message(parts=["text"]),
        message(parts=[{"text": "no type"}]),
        message(parts=[{"type": "text"}]),
        message(parts=[{"type": "text", "text": " \n"}]),
        message(parts=[*TEXT, {"type": "file", "url": "data:,x", "mediaType": "text/plain"}]),
        message(id="x" * 256),
        message(id=5),
        message(role="assistant"),
        body(trigger="submit"),
        body(messageId=5),
        body(model=5),
        body(message="text"),
    ],
)
async def test_invalid_bodies(client: httpx.AsyncClient, wrong: object) -> None:
    """422 with the place of the mistake, before anything is stored."""
    problem = await refused(client, wrong, "invalid")
    assert problem["errors"][0]["field"].startswith("body")
    assert (await client.get("/api/conversations")).json()["conversations"] == []


async def test_other_refusals(client: httpx.AsyncClient, make_client: MakeClient) -> None:
    """Each with its own code."""
    for garbage in (b"", b"{", b"\xff", b'{"id":"c","messages":' + b"[" * 90_000):
        await refused(client, garbage, "malformed_json")
    await refused(client, body(model="nobody"), "unknown_model")
    await refused(client, body(model="nearby"), "model_unavailable")
    await refused(client, body(), "foreign_origin", Origin="https://elsewhere.example")
    await refused(client, body(trigger="regenerate-message"), "not_found")
    await refused(
        client,
        message(parts=[{"type": "text", "text": "x" * 2000}]),
        "invalid",
        **{"x-ai-sdk-profile": "v4"},
    )
    async with make_client(max_content_bytes=1024, max_chat_body_bytes=64 * 1024) as small:
        await refused(
            small, message(parts=[{"type": "text", "text": "x" * 2000}]), "content_too_large"
        )
        await refused(
            small, message(parts=[{"type": "text", "text": "x" * 70_000}]), "body_too_large"
        )


async def test_a_decision_that_says_two_things(client: httpx.AsyncClient) -> None:
    """Nobody who reads the body may take the other one for what counts."""
    part = {"type": "tool-pay", "toolCallId": "c", "state": "approval-responded", "input": {}}
    part["approval"] = {"id": "c", "approved": True}
    sent = json.dumps(body(messages=[{"id": "m", "role": "assistant", "parts": [part]}]))
    doubled = sent.replace('"approved": true', '"approved": false, "approved": true')
    assert doubled != sent
    await refused(client, doubled.encode(), "malformed_json")


@pytest.mark.parametrize(
    "others",
    [
        {},
        {"messages": None},
        {"messages": []},
        {"messages": [{"role": "user", "parts": [{"type": "file"}]}]},
    ],
)
def test_a_client_may_send_only_its_last_message(others: dict[str, Any]) -> None:
    """As `prepareSendMessagesRequest` in the AI SDK's documentation; it comes before a list. `null`
    counts as absent.
    """
    bounds = InputLimits(1000, 100_000)
    sent = {"id": "c", "message": {"id": "m", "role": "user", "parts": TEXT}} | others
    asked = parse_chat(json.dumps(sent).encode(), bounds)
    assert (asked.user_message_id, asked.text) == ("m", "hi")
    assert parse_chat(json.dumps(body(message=None)).encode(), bounds).text == "hi"


async def test_missing_chats(client: httpx.AsyncClient) -> None:
    """Nothing to resume, to stop or to show; a cursor is lost."""
    assert (await client.get("/api/chat/nobody/stream")).status_code == 204
    assert (await client.post("/api/chat/nobody/stop")).json() == {"cancelled": []}
    assert (await client.get("/api/chat/nobody/messages")).json() == {"messages": [], "next": None}
    assert (await client.get("/api/chat/nobody/stream?after=k3f9:7")).json()[
        "code"
    ] == "cursor_lost"
    for wrong in ("x", "k3f9", "k3f9:-1", "k3f9:07"):
        assert (
            await client.get("/api/chat/nobody/stream", headers={"Last-Event-ID": wrong})
        ).json()["code"] == "malformed_cursor"


async def test_every_chat_id_has_an_address(client: httpx.AsyncClient, store: Store) -> None:
    """Slashes, dots, percent signs, and words of the routes."""
    for name in (
        "a/b",
        "a/stream",
        "messages",
        "../c",
        "a..b",
        "50%",
        "ü/日本 🦉",
        "a%2Fb",
        "stop/stop",
        "ws",
        "a?b#c",
    ):
        made = await store.open_chat("local", name)
        path = f"/api/chat/{httpx.QueryParams({'x': name})}".replace("x=", "", 1).replace(
            "+", "%20"
        )
        assert (await client.get(f"{path}/messages")).status_code == 200, name
        assert (await client.post(f"{path}/stop")).json() == {"cancelled": []}
        assert (await store.open_chat("local", name)).id == made.id


async def test_another_users_chat_is_another_chat(make_client: MakeClient, store: Store) -> None:
    """Neither its name nor its id shows anything of it."""
    theirs = await store.open_chat("ada", "secret")
    async with make_client() as client:
        for name in ("secret", theirs.id):
            assert (await client.get(f"/api/chat/{name}/messages")).json()["messages"] == []


async def test_allowed_origins(make_client: MakeClient) -> None:
    """None by default; a listed one may call, with the SDK's user agent among the allowed
    headers.
    """
    origin = "https://app.example.com"
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,user-agent,last-event-id",
    }
    async with (
        make_client() as closed,
        make_client(cors_origins=f"{origin}, https://other.example.com") as open_,
    ):
        assert (
            "access-control-allow-origin"
            not in (await closed.options("/api/chat", headers=asked)).headers
        )
        answer = await open_.options("/api/chat", headers=asked)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert "user-agent" in answer.headers["access-control-allow-headers"]
        called = await open_.post(
            "/api/chat/c/stop", headers={"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        )
        assert called.status_code == 200
        assert called.headers["access-control-allow-origin"] == origin
        await refused(open_, body(), "foreign_origin", Origin="https://elsewhere.example")
        assert (
            await open_.options(
                "/api/chat", headers=asked | {"Origin": "https://elsewhere.example"}
            )
        ).status_code == 400


async def test_regenerate(client: httpx.AsyncClient, store: Store, log: MemoryLog) -> None:
    """`POST /api/messages/{id}/regenerate`: 409 while the answer is unfinished, then a new answer
    in its place.
    """
    conversation = (await client.post("/api/conversations")).json()["id"]
    posted = (
        await client.post(f"/api/conversations/{conversation}/messages", json={"content": "hi"})
    ).json()
    answer_id = posted["assistant_message"]["id"]
    running = await client.post(f"/api/messages/{answer_id}/regenerate")
    assert (running.status_code, running.json()["code"]) == (409, "answer_running")
    await client.post(f"/api/messages/{answer_id}/cancel")
    key = {"Idempotency-Key": "k"}
    first = await client.post(f"/api/messages/{answer_id}/regenerate", headers=key)
    again = await client.post(f"/api/messages/{answer_id}/regenerate", headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    made = first.json()["assistant_message"]
    assert again.json()["assistant_message"]["id"] == made["id"] != answer_id
    assert made["parent_id"] == posted["user_message"]["id"]
    shown = (await client.get(f"/api/conversations/{conversation}")).json()["messages"]
    assert [row["id"] for row in shown] == [posted["user_message"]["id"], made["id"]]
    logged = await log.read(conversation, None, 0, 100)
    assert made["id"].encode() in logged.entries[-1].data
    assert (await client.post("/api/messages/nobody/regenerate")).status_code == 404


async def test_a_key_belongs_to_one_answer(client: httpx.AsyncClient) -> None:
    """Two answers that are regenerated under the same key are two."""
    made = []
    for _ in range(2):
        conversation = (await client.post("/api/conversations")).json()["id"]
        posted = (
            await client.post(f"/api/conversations/{conversation}/messages", json={"content": "hi"})
        ).json()
        answer_id = posted["assistant_message"]["id"]
        await client.post(f"/api/messages/{answer_id}/cancel")
        again = await client.post(
            f"/api/messages/{answer_id}/regenerate", headers={"Idempotency-Key": "k"}
        )
        assert again.json()["user_message"]["id"] == posted["user_message"]["id"]
        made.append(again.json()["assistant_message"]["id"])
    assert made[0] != made[1]


async def test_single_answers_refuse(client: httpx.AsyncClient) -> None:
    """Invalid prompts, and unknown schemas."""
    for wrong in ({}, {"prompt": 1}, {"prompt": " "}, []):
        assert (await client.post("/api/completion", json=wrong)).json()["code"] == "invalid"
    assert (await client.post("/api/completion?protocol=morse", json={"prompt": "x"})).json()[
        "code"
    ] == "invalid"
    assert (await client.post("/api/object", content=b"{")).json()["code"] == "malformed_json"
    assert (await client.post("/api/object?schema=nobody", json=1)).json()["code"] == "invalid"
    assert (await client.post("/api/object", json=" ")).json()["code"] == "invalid"
