"""What each provider receives of the parameters of an answer, and what is refused by its name."""

import json
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tests.unit.providers.bodies import RESPONSES
from tokenwire.providers import catalogue, parameters
from tokenwire.providers.base import HistoryMessage, Request, Tool, UnsupportedParameter
from tokenwire.providers.dialects import DIALECTS
from tokenwire.providers.presets import PRESETS
from tokenwire.providers.registry import preset_of
from tokenwire.providers.spec import ModelSpec

USER = HistoryMessage("user", "hi")
VALUES: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "seed": 7,
    "presence_penalty": 0.25,
    "frequency_penalty": 0.75,
    "logit_bias": {"50256": -100.0},
    "max_tokens": 9,
    "stop": ("END",),
    "reasoning_effort": "low",
    "parallel_tool_calls": False,
}
TOOLS = (Tool("weather", "the weather", {"type": "object"}),)
LACKS = None
THINKING = {"includeThoughts": True, "thinkingLevel": "low"}

RECEIVED: dict[str, dict[str, Any]] = {
    "openai": {
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.9},
        "top_k": LACKS,
        "seed": {"seed": 7},
        "presence_penalty": {"presence_penalty": 0.25},
        "frequency_penalty": {"frequency_penalty": 0.75},
        "logit_bias": {"logit_bias": {"50256": -100.0}},
        "max_tokens": {"max_completion_tokens": 9},
        "stop": {"stop": ["END"]},
        "reasoning_effort": {"reasoning_effort": "low"},
        "parallel_tool_calls": {"parallel_tool_calls": False},
    },
    "openai_responses": {
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.9},
        "max_tokens": {"max_output_tokens": 9},
        "reasoning_effort": {"reasoning": {"effort": "low", "summary": "auto"}},
        "parallel_tool_calls": {"parallel_tool_calls": False},
    },
    "anthropic": {
        "temperature": {"temperature": 0.5},
        "top_p": {"top_p": 0.9},
        "top_k": {"top_k": 40},
        "max_tokens": {"max_tokens": 9},
        "stop": {"stop_sequences": ["END"]},
        "reasoning_effort": {"thinking": {"type": "enabled", "budget_tokens": 2048}},
        "parallel_tool_calls": {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    },
    "gemini": {
        "temperature": {"generationConfig": {"temperature": 0.5}},
        "top_p": {"generationConfig": {"topP": 0.9}},
        "top_k": {"generationConfig": {"topK": 40}},
        "seed": {"generationConfig": {"seed": 7}},
        "presence_penalty": {"generationConfig": {"presencePenalty": 0.25}},
        "frequency_penalty": {"generationConfig": {"frequencyPenalty": 0.75}},
        "max_tokens": {"generationConfig": {"maxOutputTokens": 9}},
        "stop": {"generationConfig": {"stopSequences": ["END"]}},
        "reasoning_effort": {"generationConfig": {"thinkingConfig": THINKING}},
    },
    "ollama": {
        "temperature": {"options": {"temperature": 0.5}},
        "top_p": {"options": {"top_p": 0.9}},
        "top_k": {"options": {"top_k": 40}},
        "seed": {"options": {"seed": 7}},
        "presence_penalty": {"options": {"presence_penalty": 0.25}},
        "frequency_penalty": {"options": {"frequency_penalty": 0.75}},
        "max_tokens": {"options": {"num_predict": 9}},
        "stop": {"options": {"stop": ["END"]}},
        "reasoning_effort": {"think": True},
    },
    "cohere": {
        "temperature": {"temperature": 0.5},
        "top_p": {"p": 0.9},
        "top_k": {"k": 40},
        "seed": {"seed": 7},
        "presence_penalty": {"presence_penalty": 0.25},
        "frequency_penalty": {"frequency_penalty": 0.75},
        "max_tokens": {"max_tokens": 9},
        "stop": {"stop_sequences": ["END"]},
    },
}
"""Preset -> parameter -> what stands in the body because of it; the provider lacks all others."""


def sent(preset: str, *, tools: bool = True, options: Any = None, **values: Any) -> dict[str, Any]:
    """The JSON body as it is sent."""
    spec = ModelSpec("m", preset, "m", options=options or {})
    request = Request([USER], tools=TOOLS if tools else (), **values)
    built = DIALECTS[PRESETS[preset].api].build(request, spec, preset_of(spec))
    return dict(json.loads(json.dumps(built.body)))


def test_every_parameter_has_a_value_here() -> None:
    """And every field of a request that is no parameter is known as such."""
    assert tuple(VALUES) == parameters.NAMES
    others = {"messages", "tools", "tool_choice", "schema", "continuation", "tries", "extra"}
    assert set(Request.__slots__) == {*parameters.NAMES, *others}
    assert {PRESETS[name].api for name in RECEIVED} == set(DIALECTS)


@pytest.mark.parametrize("preset", RECEIVED)
@pytest.mark.parametrize("name", VALUES)
def test_what_the_provider_receives(preset: str, name: str) -> None:
    """The body has the parameter under the provider's own name, and changes nowhere else; or it is
    refused by its name, before a request and in web's words.
    """
    expected = RECEIVED[preset].get(name, LACKS)
    spec = ModelSpec("m", preset, "m")
    refused = parameters.refusal_by(spec, {name: VALUES[name]})
    if expected is LACKS:
        with pytest.raises(UnsupportedParameter, match=name) as error:
            sent(preset, **{name: VALUES[name]})
        assert refused is not None
        assert (error.value.parameter, str(error.value)) == (refused.parameter, refused.reason)
        return
    assert refused is None
    plain, body = sent(preset), sent(preset, **{name: VALUES[name]})
    assert {key: value for key, value in body.items() if plain.get(key) != value} == expected


def test_a_parameter_of_calls_needs_tools() -> None:
    """OpenAI's API refuses a request that sets it without tools; it would change nothing."""
    for preset in ("openai", "openai_responses", "anthropic"):
        assert sent(preset, tools=False, parallel_tool_calls=False) == sent(preset, tools=False)
    choice = sent("anthropic", tool_choice="none", parallel_tool_calls=False)["tool_choice"]
    assert choice == {"type": "none"}


@pytest.mark.parametrize(
    ("preset", "name", "expected"),
    [
        ("mistral", "seed", {"random_seed": 7}),
        ("mistral", "reasoning_effort", LACKS),
        ("deepseek", "seed", LACKS),
        ("groq", "logit_bias", LACKS),
        ("groq", "presence_penalty", LACKS),
        ("groq", "frequency_penalty", LACKS),
        ("perplexity", "top_k", {"top_k": 40}),
        ("perplexity", "seed", LACKS),
        ("perplexity", "parallel_tool_calls", {"parallel_tool_calls": False}),
        ("together", "top_k", {"top_k": 40}),
        ("together", "parallel_tool_calls", LACKS),
        ("groq", "max_tokens", {"max_completion_tokens": 9}),
        ("xai", "logit_bias", LACKS),
        ("openrouter", "reasoning_effort", {"reasoning": {"effort": "low"}}),
        ("openrouter", "top_k", {"top_k": 40}),
        ("vllm", "top_k", {"top_k": 40}),
        ("openai_compatible", "top_k", LACKS),
    ],
)
def test_deviations_of_presets(preset: str, name: str, expected: Any) -> None:
    """They are data of the preset."""
    if expected is LACKS:
        with pytest.raises(UnsupportedParameter, match=name):
            sent(preset, **{name: VALUES[name]})
    else:
        plain, body = sent(preset), sent(preset, **{name: VALUES[name]})
        assert {key: value for key, value in body.items() if plain.get(key) != value} == expected


def test_an_entry_extends_its_preset() -> None:
    """A name, a refusal, and a parameter that may be left out; the preset's own table stays."""
    options = {"parameters": {"top_k": "top_k", "seed": None, "reasoning_effort": "ignored"}}
    body = sent("openai", options=options, top_k=3, max_tokens=4, reasoning_effort="low")
    assert (body["top_k"], body["max_completion_tokens"]) == (3, 4)
    assert "low" not in json.dumps(body)
    with pytest.raises(UnsupportedParameter, match="seed"):
        sent("openai", options=options, seed=1)


def test_deviations_belong_to_the_presets_own_dialect() -> None:
    """An entry that names another dialect gets that one's names."""
    spec = ModelSpec("m", "openai", "m", api="openai.responses")
    body = DIALECTS[RESPONSES].build(Request([USER], max_tokens=4), spec, preset_of(spec)).body
    assert body is not None
    assert body["max_output_tokens"] == 4


@pytest.mark.parametrize(
    ("preset", "values", "refused"),
    [
        ("anthropic", {"temperature": 1.5}, "temperature"),
        ("gemini", {"seed": 2**40}, "seed"),
        ("cohere", {"presence_penalty": -1.0}, "presence_penalty"),
        ("anthropic", {"reasoning_effort": "low", "temperature": 0.5}, "temperature"),
        ("anthropic", {"reasoning_effort": "low", "top_k": 5}, "top_k"),
    ],
)
def test_ranges_and_pairs(preset: str, values: dict[str, Any], refused: str) -> None:
    """Of one API: what others take."""
    with pytest.raises(UnsupportedParameter) as error:
        sent(preset, **values)
    assert error.value.parameter == refused
    assert sent("openai", **{**values, "top_k": None})


@pytest.mark.parametrize(
    "values",
    [
        {"presence_penalty": 0},
        {"frequency_penalty": 0.0},
        {"top_p": 1},
        {"parallel_tool_calls": True},
    ],
)
def test_what_happens_anyway_is_accepted(values: dict[str, Any]) -> None:
    """A client that sends defaults is not turned away, and nothing is sent that the API lacks."""
    lacking = {"parameters": dict.fromkeys(values)}
    assert sent("openai", options=lacking, **values) == sent("openai")


def test_a_plugin_decides_for_itself() -> None:
    """Until its preset names its parameters."""
    spec = ModelSpec("m", "acme", "m", api="acme.chat")
    assert parameters.refusal_by(spec, VALUES) is None
    named = ModelSpec("m", "acme", "m", api="acme.chat", options={"parameters": {"seed": "s"}})
    refused = parameters.refusal_by(named, {"seed": 1, "top_p": 0.5})
    assert refused is not None
    assert refused.parameter == "top_p"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ([], "must be a mapping"),
        ({"warmth": "x"}, "'warmth' is no parameter"),
        ({"seed": 5}, "seed: must be a name on the wire"),
        ({"seed": ""}, "seed: must be a name on the wire"),
    ],
)
def test_a_wrong_table_of_an_entry(table: Any, words: str) -> None:
    """One line that names model and key, when the catalogue is read."""
    document = {"models": {"m": {"provider": "demo", "options": {"parameters": table}}}}
    with pytest.raises(catalogue.CatalogueError, match=f"m: options: parameters: {words}"):
        catalogue.parse(document, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": "0.5"},
        {"temperature": True},
        {"temperature": float("nan")},
        {"top_p": 1.1},
        {"top_k": -1},
        {"top_k": 0.5},
        {"seed": 2**63},
        {"presence_penalty": 2.5},
        {"frequency_penalty": -2.5},
        {"logit_bias": {"word": 1}},
        {"logit_bias": {"5": 101}},
        {"logit_bias": {str(number): 0 for number in range(parameters.MAX_BIASES + 1)}},
        {"max_tokens": 0},
        {"stop": "END"},
        {"stop": [""]},
        {"stop": ["x"] * (parameters.MAX_STOPS + 1)},
        {"reasoning_effort": "immense"},
        {"parallel_tool_calls": 1},
        {"warmth": 1},
    ],
)
def test_values_out_of_range(wrong: dict[str, Any]) -> None:
    """Types are strict, and names are known ones."""
    with pytest.raises(ValidationError):
        parameters.Parameters.model_validate(wrong)


@pytest.mark.parametrize("effort", get_args(parameters.Effort))
def test_every_effort_has_a_form(effort: Any) -> None:
    """In each dialect that reasons."""
    for preset in RECEIVED.keys() - {"cohere"}:
        assert sent(preset, reasoning_effort=effort) != sent(preset)
