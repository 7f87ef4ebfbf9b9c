"""Pure: which parameters of a request reach which provider, and under which name.

One table for two sides. The builders of requests write by it, and web refuses by it before anything
is stored; a model that was exchanged in between is refused by the builder. So a parameter is sent
or refused by its name, and never dropped. One exception: a value that asks for what happens anyway
(`_NEUTRAL`) is accepted everywhere. An API that is not in the table belongs to a plugin: the
`parameters` of its preset count, and without them its builder decides for itself.

A preset deviates from its dialect by the quirk `parameters`, which an entry's `options` may extend:
parameter -> its name on the wire (dots lead into objects), null (the provider lacks it: refused),
or `ignored` (accepted and not sent, where a provider is known to answer alike without it).

Light, like `spec`: it imports pydantic and no decoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from tokenwire.providers.presets import PRESETS
from tokenwire.providers.spec import ModelSpec, Preset

# --- values ---------------------------------------------------------------------------------------

MAX_STOPS = 16
MAX_BIASES = 1024
Effort = Literal["minimal", "low", "medium", "high"]
_NUMBER = 2**31 - 1


def _few(value: Any) -> Any:
    # Counted before each value is checked.
    if isinstance(value, dict | list) and len(value) > MAX_BIASES:
        raise ValueError(f"more than {MAX_BIASES} members")
    return value


Temperature = Annotated[float, Field(ge=0, le=2)]
TopP = Annotated[float, Field(ge=0, le=1)]
TopK = Annotated[int, Field(ge=0, le=_NUMBER)]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Field(ge=-100, le=100)]],
    BeforeValidator(_few),
    Field(max_length=MAX_BIASES),
]
MaxTokens = Annotated[int, Field(ge=1, le=_NUMBER)]
Stop = Annotated[str, Field(min_length=1, max_length=500)]
Stops = Annotated[list[Stop], BeforeValidator(_few), Field(max_length=MAX_STOPS)]


class Parameters(BaseModel):
    """The parameters of an answer, under our own names. Null is the same as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    seed: Seed | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    max_tokens: MaxTokens | None = None
    stop: Stops | None = None
    reasoning_effort: Effort | None = None
    parallel_tool_calls: bool | None = None


NAMES = tuple(Parameters.model_fields)

_NEUTRAL: Mapping[str, Any] = {
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "parallel_tool_calls": True,
}
"""Values that change nothing: a provider without the parameter accepts them."""


# --- the table ------------------------------------------------------------------------------------

IGNORED = "ignored"
QUIRK = "parameters"
WireNames = Mapping[str, str | None]
"""Parameter -> its name on the wire. Absent and None: the provider lacks it."""


def _same(*names: str) -> dict[str, str | None]:
    return {name: name for name in names}


_PENALTIES = ("presence_penalty", "frequency_penalty")
_WIRE: Mapping[str, WireNames] = {
    "openai.chat": _same(*(name for name in NAMES if name != "top_k")),
    "openai.responses": {
        **_same("temperature", "top_p", "parallel_tool_calls"),
        "max_tokens": "max_output_tokens",
        "reasoning_effort": "reasoning.effort",
    },
    "anthropic.messages": {
        **_same("temperature", "top_p", "top_k", "max_tokens"),
        "stop": "stop_sequences",
        "reasoning_effort": "thinking",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    },
    "gemini.generateContent": {
        "temperature": "generationConfig.temperature",
        "top_p": "generationConfig.topP",
        "top_k": "generationConfig.topK",
        "seed": "generationConfig.seed",
        "presence_penalty": "generationConfig.presencePenalty",
        "frequency_penalty": "generationConfig.frequencyPenalty",
        "max_tokens": "generationConfig.maxOutputTokens",
        "stop": "generationConfig.stopSequences",
        "reasoning_effort": "generationConfig.thinkingConfig",
    },
    "ollama.chat": {
        **{
            name: f"options.{name}"
            for name in ("temperature", "top_p", "top_k", "seed", *_PENALTIES, "stop")
        },
        "max_tokens": "options.num_predict",
        "reasoning_effort": "think",
    },
    "cohere.chat": {
        **_same("temperature", "seed", *_PENALTIES, "max_tokens"),
        "top_p": "p",
        "top_k": "k",
        "stop": "stop_sequences",
    },
    "demo": _same(*NAMES),
}

_RANGES: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "anthropic.messages": {"temperature": (0, 1)},
    "gemini.generateContent": {"seed": (-(2**31), _NUMBER)},
    "cohere.chat": {
        "top_p": (0.01, 0.99),
        "top_k": (0, 500),
        "seed": (0, 2**63 - 1),
        "presence_penalty": (0, 1),
        "frequency_penalty": (0, 1),
    },
}
"""What an API takes of a range that others take whole."""

_APART: Mapping[str, Mapping[str, frozenset[str]]] = {
    "anthropic.messages": {"reasoning_effort": frozenset({"temperature", "top_k"})}
}
"""Parameters that an API refuses beside another one."""


# --- decisions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """A parameter that cannot be sent, and why: a sentence for the person who set it."""

    parameter: str
    reason: str


def given(holder: object) -> dict[str, Any]:
    """The parameters that a request sets, by name."""
    found = {name: getattr(holder, name) for name in NAMES}
    return {name: value for name, value in found.items() if value is not None and value != ()}


def wire_of(api: str, spec: ModelSpec, preset: Preset | None) -> WireNames | None:
    """The names on the wire for an entry. None: an API of a plugin, whose preset names none.

    A preset's deviations belong to its own dialect, not to another one that the entry names.
    """
    own = PRESETS.get(spec.provider, preset)
    holders = [spec.options] if own is None or own.api != api else [own.quirks, spec.options]
    deviations = [holder.get(QUIRK) or {} for holder in holders]
    found = {name: wire for each in deviations for name, wire in each.items()}
    return {**_WIRE.get(api, {}), **found} if found or api in _WIRE else None


def refusal(parameters: Mapping[str, Any], api: str, wire: WireNames) -> Refusal | None:
    """The first parameter that this API does not take."""
    found = (_refused(name, parameters, api, wire) for name in parameters)
    return next((each for each in found if each is not None), None)


def _refused(name: str, parameters: Mapping[str, Any], api: str, wire: WireNames) -> Refusal | None:
    value = parameters[name]
    if wire.get(name) is None:
        if name in _NEUTRAL and value == _NEUTRAL[name]:
            return None
        return Refusal(name, f"This model does not take the parameter {name}.")
    if (bounds := _RANGES.get(api, {}).get(name)) and not bounds[0] <= value <= bounds[1]:
        return Refusal(name, f"This model takes {name} from {bounds[0]} to {bounds[1]}.")
    if beside := _APART.get(api, {}).get(name, frozenset()) & parameters.keys():
        other = min(beside)
        return Refusal(other, f"This model does not take {other} together with {name}.")
    return None


def refusal_by(spec: ModelSpec, parameters: Mapping[str, Any]) -> Refusal | None:
    """The first parameter that this entry of the catalogue does not take."""
    preset = PRESETS.get(spec.provider)
    api = spec.api or (preset.api if preset else "")
    wire = wire_of(api, spec, preset)
    return None if wire is None else refusal(parameters, api, wire)


def places(parameters: Mapping[str, Any], wire: WireNames) -> dict[str, str]:
    """Parameter -> its place on the wire, of those that are sent."""
    found = ((name, wire.get(name)) for name in parameters)
    return {name: place for name, place in found if place and place != IGNORED}


def mistake_in(options: Mapping[str, Any]) -> str | None:
    """What is wrong with `parameters` in an entry's options."""
    table = options.get(QUIRK)
    if table is not None and not isinstance(table, dict):
        return "must be a mapping"
    for name, wire in (table or {}).items():
        if name not in NAMES:
            return f"{name!r} is no parameter (known: {', '.join(NAMES)})"
        if wire is not None and not (isinstance(wire, str) and wire):
            return f"{name}: must be a name on the wire, `{IGNORED}`, or null"
    return None
