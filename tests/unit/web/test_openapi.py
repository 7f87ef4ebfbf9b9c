"""The OpenAPI document is true: it describes what the API does."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from tests.unit.web.conftest import MakeApp
from tokenwire.config.settings import ROOT
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.web.api import shapes
from tokenwire.web.problems import Problem

C = "/api/conversations"


@pytest.fixture
def document(make_app: MakeApp) -> dict[str, Any]:
    app: FastAPI = make_app()
    return app.openapi()


def test_protocol_lists_every_call(document: dict[str, Any]) -> None:
    """The table of PROTOCOL.md, section 6, and OpenAPI name the same calls."""
    table = (ROOT / "PROTOCOL.md").read_text().split("## 6. HTTP API")[1].split("### Refusals")[0]
    listed = {
        f"{method} {re.sub('{[a-z_]+}', '{}', path)}"
        for line in table.splitlines()
        if line.startswith("| `")
        for method, path in re.findall(r"`(GET|POST|PATCH|DELETE) ([^ `?]+)", line.split("|")[1])
    }
    served = {
        f"{method.upper()} {re.sub('{[a-z_]+}', '{}', path)}"
        for path, operations in document["paths"].items()
        for method in operations
        if path.startswith(("/api/", "/healthz", "/readyz", "/metrics"))
        and not path.startswith(("/api/chat", "/api/completion", "/api/object"))
    }
    assert listed == served | {"GET /metrics"}


def resolved(document: dict[str, Any]) -> list[str]:
    """Every reference in the document."""
    text = json.dumps(document)
    return [part.split('"')[0] for part in text.split('"$ref": "')[1:]]


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """FastAPI's own error shape, which never occurs, is not mentioned."""
    names = {reference.removeprefix("#/components/schemas/") for reference in resolved(document)}
    assert names <= set(document["components"]["schemas"])
    assert "Problem" in names
    assert "HTTPValidationError" not in json.dumps(document)


def test_a_path_that_matches_no_route_is_documented(document: dict[str, Any]) -> None:
    """A control character in a parameter makes such a path: 404 before any route."""
    silent = [
        (method, path)
        for path, methods in document["paths"].items()
        for method, route in methods.items()
        if "{" in path and "404" not in route["responses"]
    ]
    assert silent == []


def test_every_refusal_is_a_problem_document(document: dict[str, Any]) -> None:
    """Of that media type, on every operation of the API."""
    for path, operations in document["paths"].items():
        for operation in operations.values():
            refusals = {
                status: answer
                for status, answer in operation["responses"].items()
                if int(status) >= 400
            }
            media = (
                "application/json" if path.startswith("/v1") else "application/problem+json"
            )  # OpenAI's form applies there
            assert all(list(answer["content"]) == [media] for answer in refusals.values())
            if path.startswith("/api"):
                assert {"401", "500", "503"} <= set(refusals)


def test_the_routes_are_those_of_the_protocol(document: dict[str, Any]) -> None:
    """With their answers."""
    found = {
        f"{method.upper()} {path}": next(
            status for status in operation["responses"] if status.startswith("2")
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert found == {
        "GET /api/me": "200",
        "GET /api/usage": "200",
        "GET /api/models": "200",
        f"POST {C}": "201",
        f"GET {C}": "200",
        f"GET {C}/{{conversation_id}}": "200",
        f"PATCH {C}/{{conversation_id}}": "200",
        f"DELETE {C}/{{conversation_id}}": "204",
        f"POST {C}/{{conversation_id}}/messages": "202",
        f"POST {C}/{{conversation_id}}/subscription": "200",
        f"POST {C}/{{conversation_id}}/cancel": "202",
        f"GET {C}/{{conversation_id}}/participants": "200",
        f"POST {C}/{{conversation_id}}/participants": "200",
        f"DELETE {C}/{{conversation_id}}/participants/{{user_id}}": "204",
        "GET /api/invitations": "200",
        "POST /api/invitations/{conversation_id}/accept": "200",
        "DELETE /api/invitations/{conversation_id}": "204",
        f"GET {C}/{{conversation_id}}/events": "200",
        "GET /api/messages/{message_id}/events": "200",
        "GET /api/feed": "200",
        "POST /api/messages/{message_id}/cancel": "202",
        "GET /api/messages/{message_id}/files/{digest}": "200",
        "POST /api/messages/{message_id}/regenerate": "202",
        "GET /api/messages/{message_id}/calls": "200",
        "POST /api/messages/{message_id}/calls/{number}/decision": "200",
        "POST /api/chat": "200",
        "GET /api/chat/{chat_id}/stream": "200",
        "GET /api/chat/{chat_id}/messages": "200",
        "POST /api/chat/{chat_id}/stop": "200",
        "POST /api/completion": "200",
        "POST /api/object": "200",
        "POST /v1/responses": "200",
        "GET /v1/responses/{response_id}": "200",
        "DELETE /v1/responses/{response_id}": "200",
        "GET /v1/responses/{response_id}/input_items": "200",
        "POST /v1/responses/{response_id}/cancel": "200",
        "POST /v1/chat/completions": "200",
        "GET /v1/models": "200",
        "GET /v1/models/{name}": "200",
        "GET /healthz": "200",
        "GET /readyz": "200",
        "GET /metrics": "200",
    }


def accepted(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The properties of a body."""
    body = document["paths"][path]["post"]["requestBody"]
    assert body["required"]
    found: dict[str, Any] = body["content"]["application/json"]["schema"]
    assert found["type"] == "object"
    return found


NAME = {"type": "string", "minLength": 1, "maxLength": 255}


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A member that may be absent."""
    return {"anyOf": [schema, {"type": "null"}]}


def test_bodies_of_the_ai_sdk_are_documented_as_they_are_read(document: dict[str, Any]) -> None:
    """With the lengths of names, and the words that `trigger` may be."""
    chat = accepted(document, "/api/chat")
    assert chat["required"] == ["id"]
    assert chat["properties"] == {
        "id": NAME,
        "trigger": {
            "enum": ["regenerate-message", "submit-message"],
            "default": "submit-message",
        },
        "messageId": or_null(NAME),
        "messages": or_null({"type": "array", "items": {"type": "object"}}),
        "message": or_null({"type": "object"}),
        "model": or_null(NAME),
        "options": or_null({"type": "object"}),
        "tools": {"anyOf": [{"type": "object"}, {"type": "array"}, {"type": "null"}]},
        "activeTools": or_null({"type": "array"}),
        "toolChoice": {"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "null"}]},
        "while_running": or_null({"enum": ["cancel_previous", "queue", "reject", "steer"]}),
    }
    completion = accepted(document, "/api/completion")
    assert completion["required"] == ["prompt"]
    assert completion["properties"] == {
        "prompt": {"type": "string"},
        "model": or_null(NAME),
        "options": or_null({"type": "object"}),
    }


def test_defaults_are_valid_values(document: dict[str, Any]) -> None:
    """Otherwise tools refuse the document."""
    found = [
        (name, prop)
        for name, schema in document["components"]["schemas"].items()
        for prop in schema.get("properties", {}).values()
    ]
    assert found
    for name, prop in found:
        assert len(str(prop.get("default", "." * prop.get("minLength", 0)))) >= prop.get(
            "minLength", 0
        ), (name, prop)


def strictly(model: type[BaseModel]) -> Callable[[Any], object]:
    """Validates with no field left over and none missing."""

    def check(value: Any) -> None:
        parsed = model.model_validate(value, strict=True)
        assert json.loads(parsed.model_dump_json(exclude_unset=True, by_alias=True)) == value

    return check


async def test_answers_have_the_documented_shape(client: httpx.AsyncClient, log: MemoryLog) -> None:
    """No extra field, none missing, types as written."""
    made = (await client.post(C, json={"title": "T"})).json()
    strictly(shapes.ConversationView)(made)
    address = f"{C}/{made['id']}"
    strictly(shapes.PostedMessage)(
        (await client.post(f"{address}/messages", json={"content": "hi"})).json()
    )
    strictly(shapes.ConversationSnapshot)((await client.get(address)).json())
    strictly(shapes.ConversationPage)((await client.get(C)).json())
    strictly(shapes.Subscription)((await client.post(f"{address}/subscription")).json())
    strictly(shapes.CancelResult)((await client.post(f"{address}/cancel")).json())
    strictly(shapes.ParticipantsView)(
        (await client.post(f"{address}/participants", json={"user_id": "ada"})).json()
    )
    strictly(shapes.Invitations)((await client.get("/api/invitations")).json())
    strictly(shapes.OfferedModels)((await client.get("/api/models")).json())
    strictly(Problem)((await client.get(f"{C}/nobody")).json())
    strictly(Problem)((await client.get(C, params={"limit": 0})).json())
    strictly(Problem)((await client.post(C, json={"model": "nobody"})).json())
    log.go_down()
    strictly(Problem)((await client.get("/readyz")).json())


async def test_the_document_is_served(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    """At its usual place."""
    assert (await client.get("/openapi.json")).json() == document
