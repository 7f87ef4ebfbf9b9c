"""Parameters of every dialect reach the provider, from the body of a post to the request body."""

import json
from typing import Any

import pytest

from tests.integration.worker_rig import NoJobs, Script, runner_over, services_over
from tokenwire.config.terms import ToolTerms
from tokenwire.models.store import Store
from tokenwire.providers import base
from tokenwire.providers.demo import DemoProvider
from tokenwire.providers.dialects import DIALECTS
from tokenwire.providers.registry import presets
from tokenwire.providers.spec import ModelSpec
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.web.openai.requests import Asker, CompletionsBody, ResponseBody

USER = "u1"
PRESETS = {
    "openai.chat": "openai",
    "openai.responses": "openai_responses",
    "anthropic.messages": "anthropic",
    "gemini.generateContent": "gemini",
    "ollama.chat": "ollama",
    "cohere.chat": "cohere",
}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
ASKER = Asker(USER, ToolTerms())


async def asked(store: Store, body: CompletionsBody | ResponseBody) -> base.Request:
    """The request that a provider gets for a post."""
    question = (
        body.question(ASKER, "m", None)
        if isinstance(body, ResponseBody)
        else body.question(ASKER, "m")
    )
    posted = await store.ask(question)
    provider = Script([[base.TextDelta("{}"), base.Finish("stop")]])
    runner = runner_over(services_over(store, MemoryLog(), NoJobs()), provider)
    await runner.generate(posted.assistant_message.id)
    return provider.asked[0]


def sent(api: str, request: base.Request) -> dict[str, Any]:
    """The JSON body as it is sent."""
    spec = ModelSpec("m", PRESETS[api], "m", api=api)
    built = DIALECTS[api].build(request, spec, presets()[PRESETS[api]])
    body: dict[str, Any] = json.loads(json.dumps(built.body))
    return body


def chat(**fields: Any) -> CompletionsBody:
    return CompletionsBody(
        messages=[{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        **fields,
    )


def response(**fields: Any) -> ResponseBody:
    return ResponseBody(input="hi", **fields)


WHERE: dict[str, dict[str, Any]] = {
    "openai.chat": {"response_format": {"type": "json_object"}},
    "openai.responses": {"text": {"format": {"type": "json_object"}}},
    "gemini.generateContent": {"generationConfig": {"responseMimeType": "application/json"}},
    "ollama.chat": {"format": "json"},
    "cohere.chat": {"response_format": {"type": "json_object"}},
}


@pytest.mark.parametrize(
    "body",
    [
        chat(response_format={"type": "json_object"}),
        response(text={"format": {"type": "json_object"}}),
    ],
)
async def test_any_json(sqlite_store: Store, body: CompletionsBody | ResponseBody) -> None:
    """`json_object` is a format of its own, different from a schema and from none."""
    request = await asked(sqlite_store, body)
    assert request.schema == {}
    for api, expected in WHERE.items():
        assert expected.items() <= sent(api, request).items(), api
    claude = sent("anthropic.messages", request)
    assert "one JSON object" in claude["system"]
    assert "output_config" not in claude


@pytest.mark.parametrize(
    "body",
    [
        chat(
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
        ),
        response(text={"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}),
    ],
)
async def test_json_of_a_schema(sqlite_store: Store, body: CompletionsBody | ResponseBody) -> None:
    """The schema itself is sent, in each dialect."""
    request = await asked(sqlite_store, body)
    assert request.schema == SCHEMA
    for api in DIALECTS:
        assert '"city"' in json.dumps(sent(api, request)), api


@pytest.mark.parametrize(
    "body",
    [
        chat(),
        chat(response_format={"type": "text"}),
        response(),
        response(text={"format": {"type": "text"}}),
    ],
)
async def test_plain_text(sqlite_store: Store, body: CompletionsBody | ResponseBody) -> None:
    """No format is requested."""
    request = await asked(sqlite_store, body)
    assert (
        request.schema,
        request.temperature,
        request.max_tokens,
        request.reasoning_effort,
        list(request.stop),
    ) == (None,) * 4 + ([],)
    for api in DIALECTS:
        assert "json" not in json.dumps(sent(api, request)).lower(), api


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        (chat(temperature=0.25), "temperature", 0.25),
        (chat(temperature=0), "temperature", 0.0),
        (chat(max_tokens=7), "max_tokens", 7),
        (chat(max_completion_tokens=7), "max_tokens", 7),
        (chat(stop="END"), "stop", ["END"]),
        (chat(stop=["END", "STOP"]), "stop", ["END", "STOP"]),
        (chat(reasoning_effort="low"), "reasoning_effort", "low"),
        (chat(reasoning_effort="xhigh"), "reasoning_effort", "high"),
        (chat(top_p=0.5), "top_p", 0.5),
        (chat(top_k=5), "top_k", 5),
        (chat(seed=7), "seed", 7),
        (chat(presence_penalty=0.5), "presence_penalty", 0.5),
        (chat(frequency_penalty=0.5), "frequency_penalty", 0.5),
        (chat(logit_bias={"5": -1}), "logit_bias", {"5": -1.0}),
        (response(top_p=0.5, seed=7), "seed", 7),
        (response(temperature=0.25), "temperature", 0.25),
        (response(max_output_tokens=7), "max_tokens", 7),
        (response(reasoning={"effort": "medium"}), "reasoning_effort", "medium"),
    ],
)
async def test_each_parameter_arrives(
    sqlite_store: Store, body: CompletionsBody | ResponseBody, field: str, value: Any
) -> None:
    """In the request, and in the body of each dialect that takes it; the others refuse it."""
    request = await asked(sqlite_store, body)
    assert getattr(request, field) == value
    plain = await asked(sqlite_store, chat())
    for api in DIALECTS:
        try:
            assert sent(api, request) != sent(api, plain), api
        except base.UnsupportedParameter as error:
            assert error.parameter == field  # noqa: PT017 - each dialect does one or the other


async def test_an_exchanged_model_refuses_by_name(sqlite_store: Store) -> None:
    """The catalogue changed after the post: the answer ends with a sentence that names the
    parameter.
    """
    posted = await sqlite_store.ask(chat(seed=7).question(ASKER, "m"))
    provider = DemoProvider(
        ModelSpec("m", "demo", "m", options={"parameters": {"seed": None}}), presets()["demo"]
    )
    runner = runner_over(services_over(sqlite_store, MemoryLog(), NoJobs()), provider)
    await runner.generate(posted.assistant_message.id)
    row = await sqlite_store.message(posted.assistant_message.id)
    assert row is not None
    assert row.error == {
        "code": "invalid_request",
        "error": "This model does not take the parameter seed.",
        "retryable": False,
    }


async def test_instructions_and_history_arrive(sqlite_store: Store) -> None:
    """System messages and `instructions` come first, in every dialect."""
    for body in (chat(), response(instructions="be brief")):
        request = await asked(sqlite_store, body)
        assert [(message.role, message.text) for message in request.messages] == [
            ("system", "be brief"),
            ("user", "hi"),
        ]
        for api in DIALECTS:
            assert "be brief" in json.dumps(sent(api, request)), api


async def test_kept_items_are_stored_and_sent_back(sqlite_store: Store) -> None:
    """A row keeps the provider's own items; the next question sends them to the same model."""
    use = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    result = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    items = [
        base.KeptDelta("anthropic.messages", str(value["type"]), value) for value in (use, result)
    ]
    posted = await sqlite_store.ask(chat().question(ASKER, "m"))
    provider = Script(
        [[base.TextDelta("Look: "), *items, base.TextDelta("there."), base.Finish("stop")]]
    )
    runner = runner_over(services_over(sqlite_store, MemoryLog(), NoJobs()), provider)
    await runner.generate(posted.assistant_message.id)
    row = await sqlite_store.message(posted.assistant_message.id)
    assert row is not None
    assert [(entry["part"], entry["value"]) for entry in row.parts_kept or ()] == [
        (1, use),
        (2, result),
    ]
    again = await sqlite_store.ask(ResponseBody(input="and now?").question(ASKER, "m", row))
    await runner.generate(again.assistant_message.id)
    content = sent("anthropic.messages", provider.asked[1])["messages"][1]["content"]
    assert [block["type"] for block in content] == [
        "text",
        "server_tool_use",
        "web_search_tool_result",
        "text",
    ]
