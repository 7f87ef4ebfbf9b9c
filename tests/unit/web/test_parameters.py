"""Parameters of an answer from every API: stored with the answer, or refused before anything is."""

import json
from typing import Any

import httpx
import openai.types.chat.completion_create_params as chat_params
import openai.types.responses.response_create_params as response_params
import pytest
from sqlalchemy import select
from sqlmodel import col

from tests.unit.web.api.test_conversations import begin
from tests.unit.web.conftest import CATALOGUE
from tokenwire.config.terms import ToolTerms
from tokenwire.models.store import Store
from tokenwire.models.tables import Conversation
from tokenwire.providers.catalogue import Catalogue, parse
from tokenwire.web.openai import requests

LACKING = {"provider": "demo", "options": {"parameters": {"seed": None, "max_tokens": None}}}
OPTIONS: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "seed": 7,
    "presence_penalty": 0.25,
    "frequency_penalty": 0.75,
    "logit_bias": {"50256": -100.0},
    "max_tokens": 9,
    "stop": ["END"],
    "reasoning_effort": "low",
    "parallel_tool_calls": False,
}


@pytest.fixture
def catalogue() -> Catalogue:
    models: Any = CATALOGUE["models"]
    return parse({"models": {**models, "lacking": LACKING}}, {})


def chat(**more: Any) -> dict[str, Any]:
    message = {"id": "m", "role": "user", "parts": [{"type": "text", "text": "hi"}]}
    return {"id": "c", "trigger": "submit-message", "messages": [message]} | more


def completion(**more: Any) -> dict[str, Any]:
    asked = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "background": True}
    return asked | more


async def conversations(store: Store) -> list[str]:
    """All of them, listed or not."""
    async with store.reading() as session:
        return list(await session.scalars(select(col(Conversation.id))))


async def test_options_of_a_post(client: httpx.AsyncClient, store: Store) -> None:
    """All of them stand in the answer's row; null is the same as absent."""
    address = f"/api/conversations/{(await begin(client))['id']}/messages"
    posted = await client.post(address, json={"content": "hi", "options": OPTIONS})
    row = await store.message(posted.json()["assistant_message"]["id"])
    assert row.options == OPTIONS
    for nothing in (None, {}, {"seed": None}):
        posted = await client.post(address, json={"content": "hi", "options": nothing})
        row = await store.message(posted.json()["assistant_message"]["id"])
        assert row.options is None


async def test_a_key_of_a_body_without_options(client: httpx.AsyncClient, store: Store) -> None:
    """Its hash is that of the version before, which may have taken the first request."""
    address = f"/api/conversations/{(await begin(client))['id']}/messages"
    headers = {"Idempotency-Key": "k"}
    plain = {"content": "hi", "tools": None}
    first = await client.post(address, json=plain, headers=headers)
    again = await client.post(address, json={"content": "hi", "options": {}}, headers=headers)
    assert again.json()["user_message"]["id"] == first.json()["user_message"]["id"]
    other = await client.post(
        address, json={"content": "hi", "options": {"seed": 1}}, headers=headers
    )
    assert other.json()["code"] == "key_reused"


async def test_a_post_is_refused_by_the_parameters_name(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Nothing is stored: the conversation has no message."""
    made = (await begin(client, model="lacking"))["id"]
    for options, code, field in (
        ({"temperature": 0.1, "seed": 1}, "unsupported_parameter", "body.options.seed"),
        ({"temperature": 3}, "invalid", "body.options.temperature"),
        ({"warmth": 3}, "invalid", "body.options.warmth"),
    ):
        answer = await client.post(
            f"/api/conversations/{made}/messages", json={"content": "hi", "options": options}
        )
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, code)
        assert problem["errors"][0]["field"] == field
        if code == "unsupported_parameter":
            assert problem["parameter"] == "seed"
    assert (await client.get(f"/api/conversations/{made}")).json()["messages"] == []


async def test_an_answer_made_again_keeps_its_parameters(
    client: httpx.AsyncClient, store: Store
) -> None:
    """Until the request brings others (AI SDK)."""
    made = (await begin(client))["id"]
    body = {"content": "hi", "options": {"seed": 7}}
    posted = (await client.post(f"/api/conversations/{made}/messages", json=body)).json()
    answer = posted["assistant_message"]["id"]
    await client.post(f"/api/messages/{answer}/cancel")
    again = (await client.post(f"/api/messages/{answer}/regenerate")).json()
    row = await store.message(again["assistant_message"]["id"])
    assert row.options == {"seed": 7}


async def test_a_post_chooses_its_model(client: httpx.AsyncClient, store: Store) -> None:
    """For its answer alone, and before the conversation's model."""
    made = (await begin(client, model="second"))["id"]
    posted = await client.post(
        f"/api/conversations/{made}/messages", json={"content": "hi", "model": "demo"}
    )
    assert posted.json()["assistant_message"]["model"] == "demo"
    posted = await client.post(f"/api/conversations/{made}/messages", json={"content": "hi"})
    answer = posted.json()["assistant_message"]
    assert answer["model"] == "second"
    await client.post(f"/api/messages/{answer['id']}/cancel")
    again = await client.post(
        f"/api/messages/{answer['id']}/regenerate", json={"model": "demo", "options": OPTIONS}
    )
    made_again = again.json()["assistant_message"]
    assert made_again["model"] == "demo"
    assert (await store.message(made_again["id"])).options == OPTIONS
    assert (await client.get(f"/api/conversations/{made}")).json()["conversation"][
        "model"
    ] == "second"


async def test_a_model_that_cannot_be_chosen(client: httpx.AsyncClient) -> None:
    """By a post, or by the request for another answer: nothing is stored."""
    made = (await begin(client))["id"]
    address = f"/api/conversations/{made}/messages"
    answer = (await client.post(address, json={"content": "hi"})).json()["assistant_message"]
    await client.post(f"/api/messages/{answer['id']}/cancel")
    again = f"/api/messages/{answer['id']}/regenerate"
    for path, beside in ((address, {"content": "hi"}), (again, {})):
        for more, status, code in (
            ({"model": "none such"}, 422, "unknown_model"),
            ({"model": "keyless"}, 422, "unknown_model"),
            ({"model": "nearby"}, 503, "model_unavailable"),
            ({"model": ""}, 422, "invalid"),
            ({"model": 5}, 422, "invalid"),
            ({"model": "lacking", "options": {"seed": 1}}, 422, "unsupported_parameter"),
            ({"provider": "demo"}, 422, "invalid"),
        ):
            refused = await client.post(path, json=beside | more)
            assert (refused.status_code, refused.json()["code"]) == (status, code), (path, more)
    rows = (await client.get(f"/api/conversations/{made}")).json()["messages"]
    assert [row["id"] for row in rows[1:]] == [answer["id"]]


async def test_a_repeated_request_for_another_answer(client: httpx.AsyncClient) -> None:
    """The key stands for the model, too."""
    made = (await begin(client))["id"]
    posted = await client.post(f"/api/conversations/{made}/messages", json={"content": "hi"})
    answer = posted.json()["assistant_message"]["id"]
    await client.post(f"/api/messages/{answer}/cancel")
    path, headers = f"/api/messages/{answer}/regenerate", {"Idempotency-Key": "k"}
    first = await client.post(path, headers=headers)
    for nothing in ({}, {"model": None, "options": None}):
        again = await client.post(path, headers=headers, json=nothing)
        assert again.json()["assistant_message"] == first.json()["assistant_message"]
    other = await client.post(path, headers=headers, json={"model": "second"})
    assert other.json()["code"] == "key_reused"


async def test_options_of_a_conversation(client: httpx.AsyncClient, store: Store) -> None:
    """For all its answers; what a post names comes first."""
    made = await begin(client, options={"seed": 7, "temperature": 0.5})
    assert made["options"] == {"seed": 7, "temperature": 0.5}
    address = f"/api/conversations/{made['id']}"
    body = {"content": "hi", "options": {"seed": 8}}
    posted = (await client.post(f"{address}/messages", json=body)).json()
    row = await store.message(posted["assistant_message"]["id"])
    assert row.options == {"seed": 8, "temperature": 0.5}
    assert (await client.patch(address, json={"title": "x"})).json()["options"] == made["options"]
    for nothing in (None, {}, {"seed": None}):
        changed = await client.patch(address, json={"options": {"top_k": 3}})
        assert changed.json()["options"] == {"top_k": 3}
        changed = await client.patch(address, json={"options": nothing})
        assert changed.json()["options"] is None
    posted = (await client.post(f"{address}/messages", json={"content": "hi"})).json()
    assert (await store.message(posted["assistant_message"]["id"])).options is None


async def test_options_that_the_model_of_a_conversation_lacks(client: httpx.AsyncClient) -> None:
    """Whichever comes later is refused, and nothing changes."""
    refused = await client.post(
        "/api/conversations", json={"model": "lacking", "options": {"seed": 1}}
    )
    assert refused.json()["code"] == "unsupported_parameter"
    made = await begin(client, model="lacking")
    address = f"/api/conversations/{made['id']}"
    for changes in ({"options": {"seed": 1}}, {"options": {"seed": 1}, "model": "lacking"}):
        refused = await client.patch(address, json=changes)
        assert (refused.status_code, refused.json()["code"]) == (422, "unsupported_parameter")
    changed = await client.patch(address, json={"options": {"seed": 1}, "model": None})
    assert changed.json()["options"] == {"seed": 1}
    refused = await client.post(f"{address}/messages", json={"content": "hi", "model": "lacking"})
    assert refused.json()["errors"][0]["field"] == "body.options.seed"


async def test_options_of_a_conversation_count_for_the_ai_sdk(client: httpx.AsyncClient) -> None:
    """A model that lacks them is refused."""
    made = await begin(client, options={"seed": 7})
    body = json.dumps(chat(id=made["id"], model="lacking"))
    refused = await client.post("/api/chat", content=body.encode())
    assert refused.json()["code"] == "unsupported_parameter"


async def test_options_of_the_ai_sdk(client: httpx.AsyncClient, store: Store) -> None:
    """Refused before a chat of that name exists."""
    for model, options, code in (
        ("lacking", {"seed": 1}, "unsupported_parameter"),
        ("demo", {"seed": "x"}, "invalid"),
        ("demo", {"warmth": 1}, "invalid"),
        ("demo", [], "invalid"),
    ):
        for path, body in (("chat", chat()), ("completion", {"prompt": "hi"})):
            sent = {**body, "model": model, "options": options}
            answer = await client.post(f"/api/{path}", content=json.dumps(sent).encode())
            assert answer.json()["code"] == code, (path, answer.text)
    assert await conversations(store) == []


async def test_parameters_of_openai(client: httpx.AsyncClient, store: Store) -> None:
    """Under that dialect's names; a Response repeats those that its form has."""
    same = {name: OPTIONS[name] for name in OPTIONS.keys() - {"max_tokens", "stop"}}
    del same["reasoning_effort"]
    answer = await client.post(
        "/v1/responses",
        json={
            "input": "hi",
            "background": True,
            "max_output_tokens": 9,
            "reasoning": {"effort": "low"},
            **same,
        },
    )
    shown = answer.json()
    row = await store.message(shown["id"].removeprefix("resp_"))
    assert row.options == {name: value for name, value in OPTIONS.items() if name != "stop"}
    for name in ("top_p", "presence_penalty", "frequency_penalty", "parallel_tool_calls"):
        assert shown[name] == OPTIONS[name]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("responses", {"input": "hi", "model": "lacking", "seed": 1}, "seed"),
        (
            "responses",
            {"input": "hi", "model": "lacking", "max_output_tokens": 1},
            "max_output_tokens",
        ),
        ("chat/completions", completion(model="lacking", seed=1), "seed"),
        ("chat/completions", completion(model="lacking", max_tokens=1), "max_tokens"),
        (
            "chat/completions",
            completion(model="lacking", max_completion_tokens=1),
            "max_completion_tokens",
        ),
        ("chat/completions", completion(min_p=0.1), "min_p"),
        ("chat/completions", completion(verbosity="low"), "verbosity"),
        ("chat/completions", completion(modalities=["text", "audio"]), "modalities"),
        ("chat/completions", completion(top_logprobs=2), "top_logprobs"),
        ("responses", {"input": "hi", "text": {"verbosity": "high"}}, "text.verbosity"),
        ("responses", {"input": "hi", "x" * 100: 1}, "x" * 80),
    ],
)
async def test_openai_refuses_by_name(
    client: httpx.AsyncClient, store: Store, path: str, body: dict[str, Any], param: str
) -> None:
    """What the model lacks, and what nobody here knows: it might change the answer."""
    answer = await client.post(f"/v1/{path}", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (
        400,
        "unsupported_parameter",
        param,
    )
    assert await conversations(store) == []


@pytest.mark.parametrize("wrong", [{"top_p": 2}, {"seed": 0.5}, {"logit_bias": {"a": 1}}])
async def test_openai_refuses_values(client: httpx.AsyncClient, wrong: dict[str, Any]) -> None:
    """With the place of the mistake."""
    answer = await client.post("/v1/chat/completions", json=completion(**wrong))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_value")
    assert error["param"].startswith(next(iter(wrong)))


def test_what_changes_nothing_is_ignored() -> None:
    """And values that ask for what happens anyway."""
    body = completion(
        user="ada", service_tier="flex", verbosity="medium", modalities=["text"], tool_choice="auto"
    )
    parsed = requests.understood(requests.CompletionsBody, body)
    assert parsed.question(requests.Asker("ada", ToolTerms()), "demo").options == {}


@pytest.mark.parametrize(
    ("body", "known"),
    [
        (requests.CompletionsBody, chat_params.CompletionCreateParamsBase),
        (requests.ResponseBody, response_params.ResponseCreateParamsBase),
    ],
)
def test_every_parameter_of_openais_client_has_its_place(body: Any, known: Any) -> None:
    """Understood, refused because the answer would be another one, or ignored because it would
    not.
    """
    listed = (
        body.model_fields.keys()
        | set(requests._REFUSED)
        | requests._IGNORED
        | requests._DEFAULTS.keys()
    )
    assert known.__annotations__.keys() - listed == set()
