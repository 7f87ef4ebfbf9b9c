"""The demo model with tools and schemas: calls that fit, rounds, choices, documents."""

import json
from typing import Any

import jsonschema
import pytest

from tokenwire.providers.base import (
    Delta,
    Finish,
    HistoryMessage,
    InvalidRequest,
    Request,
    TextDelta,
    Tool,
    ToolCallArguments,
    ToolCallStart,
)
from tokenwire.providers.demo import DemoProvider
from tokenwire.providers.history import CallPart, ResultPart, StepPart, TextPart
from tokenwire.providers.presets import PRESETS
from tokenwire.providers.spec import ModelSpec
from tokenwire.worker.attempt.structured import with_repair

WEATHER = Tool(
    "weather",
    "the weather",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
ADD = Tool(
    "add_numbers",
    "adds",
    {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 1}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
)
TOOLS = (WEATHER, ADD)
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city", "days"],
}


async def answered(request: Request) -> list[Delta]:
    spec = ModelSpec("demo", "demo", "demo", options={"tokens_per_second": 0})
    async with DemoProvider(spec, PRESETS["demo"]).stream(request) as stream:
        return [delta async for deltas in stream for delta in deltas]


async def called(request: Request) -> list[tuple[str, Any]]:
    """Each call with its arguments, or nothing if it wrote text."""
    deltas = await answered(request)
    names = [delta.name for delta in deltas if isinstance(delta, ToolCallStart)]
    inputs = ["" for _ in names]
    for delta in deltas:
        if isinstance(delta, ToolCallArguments):
            inputs[delta.index] += delta.json
    assert deltas[-1] == (Finish("tool_calls", "tool_calls") if names else Finish("stop", "stop"))
    assert bool(names) is not any(isinstance(delta, TextDelta) for delta in deltas)
    return list(zip(names, map(json.loads, inputs), strict=True))


async def text(request: Request) -> str:
    return "".join(delta.text for delta in await answered(request) if isinstance(delta, TextDelta))


def asking(prompt: str, *parts: Any, **fields: Any) -> Request:
    history = [HistoryMessage("user", prompt)]
    history += [HistoryMessage("assistant", parts)] if parts else []
    return Request(history, **{"tools": TOOLS, **fields})


OSLO = ("weather", {"city": "Oslo"})


@pytest.mark.parametrize(
    ("prompt", "choice", "expected"),
    [
        ("What is the weather in Oslo?", None, [OSLO]),
        ("Please add numbers for me", None, [("add_numbers", {"a": 1, "b": 1})]),
        ("Add-numbers and weather in Oslo", None, [OSLO, ("add_numbers", {"a": 1, "b": 1})]),
        ("How are you, Ada?", None, []),
        ("Is it weatherproof?", None, []),
        ("How is it in Oslo? !tool", None, [OSLO]),
        ("!tool, how is it in Oslo?", None, [OSLO]),
        ("Now !tool add_numbers", None, [("add_numbers", {"a": 1, "b": 1})]),
        ('!tool weather {"city": "Rome"} now', None, [("weather", {"city": "Rome"})]),
        (
            '!tool weather {"city": "Rome"} !tool weather {"city": "Bonn"}',
            None,
            [("weather", {"city": "Rome"}), ("weather", {"city": "Bonn"})],
        ),
        ("In Oslo: !tools", None, [OSLO, ("add_numbers", {"a": 1, "b": 1})]),
        ("How is it in Oslo? !tools", "none", []),
        ("How is it in Oslo?", "auto", []),
        ("How is it in Oslo?", "required", [OSLO]),
        ("How is it in Oslo?", "add_numbers", [("add_numbers", {"a": 1, "b": 1})]),
        ("The weather in Oslo", "add_numbers", [("add_numbers", {"a": 1, "b": 1})]),
    ],
)
async def test_which_tools_are_called(prompt: str, choice: str | None, expected: Any) -> None:
    """By a cue, by a name in the message, or because the request demands it; with arguments that
    fit.
    """
    found = await called(asking(prompt, tool_choice=choice))
    assert found == expected
    for name, arguments in found:
        jsonschema.validate(arguments, next(t for t in TOOLS if t.name == name).parameters)


@pytest.mark.parametrize(
    ("prompt", "choice", "tools", "offered"),
    [
        ("!tool nosuch {}", None, TOOLS, "weather, add_numbers"),
        ('!tool nosuch {"city": "weather"}', "weather", TOOLS, "weather, add_numbers"),
        ("!tool weather {} !tool nosuch", "required", TOOLS, "weather, add_numbers"),
        ("!rounds 2 !tool nosuch.", None, TOOLS, "weather, add_numbers"),
        ("!tool nosuch {}", None, (), "none"),
    ],
)
async def test_an_unknown_tool(
    prompt: str, choice: str | None, tools: tuple[Tool, ...], offered: str
) -> None:
    """A typo calls nothing, whatever else the message and the request want."""
    request = asking(prompt, tool_choice=choice, tools=tools)
    assert await called(request) == []
    assert await text(request) == f"There is no tool nosuch; there are: {offered}."


@pytest.mark.parametrize(
    "prompt", ['!tool weather {city: "Oslo"}', '!tool add_numbers {"a": 1} !tool weather {"city']
)
async def test_arguments_that_are_no_json(prompt: str) -> None:
    """A typo is not replaced by arguments that nobody wrote."""
    request = asking(prompt)
    assert await called(request) == []
    assert await text(request) == "The arguments behind !tool weather are no JSON object."


async def test_a_known_tool_that_is_gone_after_its_round() -> None:
    """Its result is quoted."""
    request = asking("!tool weather", *ROUND, tools=())
    assert "weather returned: 12 degrees" in await text(request)


async def test_arguments_come_in_pieces() -> None:
    """As from a real model; the ids of parallel calls differ."""
    deltas = await answered(asking("In Oslo: !tools"))
    assert sum(isinstance(delta, ToolCallArguments) for delta in deltas) > 3
    ids = [delta.id for delta in deltas if isinstance(delta, ToolCallStart)]
    assert len(set(ids)) == 2


ROUND = (CallPart("c", "weather", "{}"), ResultPart("c", "weather", "12 degrees"), StepPart())


async def test_results_are_quoted() -> None:
    """After its round, in both forms of a history; a failed tool, too."""
    assert "weather returned: 12 degrees" in await text(asking("The weather?", *ROUND))
    as_messages = Request(
        [
            HistoryMessage("user", "The weather?"),
            HistoryMessage("assistant", ROUND[:1]),
            HistoryMessage("tool", [ResultPart("c", "weather", "no net", True)]),
        ],
        tools=TOOLS,
        tool_choice="required",
    )
    assert "weather failed: no net" in await text(as_messages)


async def test_rounds() -> None:
    """So many, then the text; another question begins anew."""
    for done in range(3):
        assert len(await called(asking("Oslo !rounds 3", *ROUND * done))) == 1
    assert await called(asking("Oslo !rounds 3", *ROUND * 3)) == []
    again = asking("Oslo !rounds 1", *ROUND, TextPart("So it is."))
    following = [*again.messages, HistoryMessage("user", "And the weather in Rome?")]
    assert await called(Request(following, tools=TOOLS)) == [("weather", {"city": "Rome"})]


async def test_a_document_fits_its_schema() -> None:
    """In pieces, with words of the message; any JSON object without a schema of its own."""
    request = asking("How is it in Oslo?", tools=(), schema=SCHEMA)
    made = json.loads(await text(request))
    jsonschema.validate(made, SCHEMA)
    assert made["city"] == "Oslo"
    assert sum(isinstance(delta, TextDelta) for delta in await answered(request)) > 3
    assert isinstance(json.loads(await text(asking("hi", tools=(), schema={}))), dict)


async def test_a_misfit_is_repaired() -> None:
    """The first document breaks the schema; the one after it fits, whoever asks for it."""
    prompt = "Oslo !misfit"
    first = await text(asking(prompt, tools=(), schema=SCHEMA))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(first), SCHEMA)
    repair = asking(prompt, TextPart(first), tools=(), schema=SCHEMA)
    jsonschema.validate(json.loads(await text(repair)), SCHEMA)
    asked = Request([*repair.messages, HistoryMessage("user", "It must fit.")], schema=SCHEMA)
    jsonschema.validate(json.loads(await text(asked)), SCHEMA)


async def test_a_misfit_that_stays() -> None:
    """The repaired document breaks the schema, too."""
    written: list[TextPart] = []
    for _ in range(2):
        found = await text(asking("Oslo !misfits", *written, tools=(), schema=SCHEMA))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(found), SCHEMA)
        written.append(TextPart(found))


@pytest.mark.parametrize(("cue", "is_repaired"), [("!misfit", True), ("!misfits", False)])
async def test_a_worker_asks_for_a_repair(cue: str, is_repaired: bool) -> None:
    """The words stay those of the question, and so do its cues."""
    first = await text(asking(f"{cue} Oslo", tools=(), schema=SCHEMA))
    misfit = {"text": first, "errors": ["#: must be an object"]}
    asked = with_repair([HistoryMessage("user", f"{cue} Oslo")], misfit)
    made = json.loads(await text(Request(asked, schema=SCHEMA)))
    if is_repaired:
        jsonschema.validate(made, SCHEMA)
        assert made["city"] == "Oslo"
    else:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(made, SCHEMA)


async def test_a_schema_without_instance_is_refused() -> None:
    """It is an error of the request, and no bug."""
    for fields in ({"schema": {"$ref": "#"}}, {"tools": (Tool("t", "", {"$ref": "#"}),)}):
        with pytest.raises(InvalidRequest, match="no value for this schema"):
            await answered(asking("!tool", **{"tools": (), **fields}))
