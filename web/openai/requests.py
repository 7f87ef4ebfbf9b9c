"""Requests of OpenAI clients, and what they ask of a model.

Supported: messages of text and calls of tools (with their history, `turns`), instructions, tools
(`tools`), and the parameters of an answer (`providers/parameters.py`), JSON included. What would
change the answer, or might (images, several choices, every unknown name), is refused by name. What
changes nothing in the answer (`_IGNORED`) is dropped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tokenwire.config.terms import ToolTerms
from tokenwire.models.parts import shown_answer
from tokenwire.models.responses import PastCall, Question
from tokenwire.models.tables import Message
from tokenwire.models.tool_choices import ToolChoices
from tokenwire.protocol.values import present
from tokenwire.providers import parameters
from tokenwire.web.openai.errors import OpenAIProblem, unsupported
from tokenwire.web.openai.tools import functions_of, require_offered, tool_choices
from tokenwire.web.openai.turns import (
    Owed,
    open_requests,
    owed_by,
    turns_of_items,
    turns_of_messages,
)

MAX_MESSAGES = 10_000
MAX_REFERENCES = 256
_REFERENCE = "item_reference"
_THOUGHT = {"type": "reasoning"}
_REFUSED = (
    "audio",
    "conversation",
    "functions",
    "function_call",
    "prediction",
    "prompt",
    "web_search_options",
    "logprobs",
    "top_logprobs",
    "moderation",
    "context_management",
)
_IGNORED = frozenset(
    {
        "include",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "truncation",
        "user",
    }
)
"""Parameters that change nothing in an answer that is never shortened."""
_DEFAULTS: Mapping[str, Any] = {"modalities": ["text"], "verbosity": "medium"}
"""Parameters of which only what happens anyway is accepted."""
AskedEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


MAX_METADATA = 16


def _few(value: Any) -> Any:
    # Counted before they are parsed, and before each mistake is listed.
    if isinstance(value, dict) and len(value) > MAX_METADATA:
        raise ValueError(f"more than {MAX_METADATA} members")
    return value


Metadata = Annotated[dict[str, str], BeforeValidator(_few), Field(max_length=MAX_METADATA)]
Objects = Annotated[list[dict[str, Any]], Field(fail_fast=True)]
"""Only the first mistake is listed: there may be very many."""


class AskBody(BaseModel):
    """The fields that responses and chat completions share."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(None, min_length=1, max_length=255)
    metadata: Metadata | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    temperature: parameters.Temperature | None = None
    top_p: parameters.TopP | None = None
    top_k: parameters.TopK | None = None
    seed: parameters.Seed | None = None
    presence_penalty: parameters.Penalty | None = None
    frequency_penalty: parameters.Penalty | None = None
    logit_bias: parameters.LogitBias | None = None
    parallel_tool_calls: bool | None = None
    tools: Objects | None = None
    tool_choice: str | dict[str, Any] | None = None
    max_tool_calls: int | None = Field(None, ge=0)

    @property
    def understood(self) -> dict[str, Any]:
        """What identifies the request beside its key.

        A parameter that the version before ignored counts only if it is set: its keys still hold.
        """
        return self.model_dump(
            mode="json",
            include=set(type(self).model_fields)
            - {name for name in (*_SAMPLING, "tools") if getattr(self, name) is None}
            - ({"max_tool_calls"} if self.tools else {"tool_choice", "max_tool_calls"}),
        )

    def param(self, parameter: str) -> str:
        """The name in this dialect of one of our parameters."""
        return parameter

    def _options(
        self, max_tokens: int | None, effort: AskedEffort | None, stop: Sequence[str] | None = None
    ) -> dict[str, Any]:
        known = {"none": None, "xhigh": "high", "max": "high"}.get(effort or "", effort)
        return present(
            temperature=self.temperature,
            max_tokens=max_tokens,
            reasoning_effort=known,
            stop=stop or None,
            **self._sampling,
        )

    @property
    def _sampling(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SAMPLING}

    @property
    def _shown(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in _SHOWN}

    @property
    def follows(self) -> str | None:
        """The response that this one continues."""
        return None

    @property
    def references(self) -> set[str]:
        """Ids of items that the request does not repeat."""
        return set()

    def resolve(self, items: Mapping[str, Mapping[str, Any]]) -> None:
        """Put these items in the place of their references."""

    @property
    def wanted(self) -> "Wanted":
        """How the answer is to be sent."""
        return Wanted(bool(self.stream), bool(self.background))

    @property
    def length(self) -> int:
        """How many messages there are."""
        raise NotImplementedError

    @property
    def requests(self) -> set[str]:
        """Ids of approval requests that the input repeats or answers."""
        return set()

    def question(
        self,
        asker: "Asker",
        model: str,
        follows: Message | None = None,
        requests: Mapping[str, PastCall] | None = None,
    ) -> Question:
        """The parsed question. `requests`: those approval requests that exist.

        Raises OpenAIProblem (400).
        """
        raise NotImplementedError

    def _choices(self, terms: ToolTerms) -> ToolChoices:
        return tool_choices(
            self.tools,
            self.tool_choice,
            terms,
            attended=self._is_attended,
            max_calls=self.max_tool_calls,
        )

    @property
    def _is_attended(self) -> bool:
        """Whether a later request can allow calls of this one's answer."""
        return False


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and the limits of their tools."""

    user_id: str
    terms: ToolTerms


@dataclass(frozen=True, slots=True)
class Wanted:
    """The part of a body that is needed until its answer has ended."""

    stream: bool
    background: bool = False
    include_usage: bool = False


_SAMPLING = (
    *("top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "logit_bias"),
    "parallel_tool_calls",
)
_SHOWN = ("top_p", "presence_penalty", "frequency_penalty", "parallel_tool_calls")
"""Parameters that a Response repeats."""
B = TypeVar("B", bound=AskBody)


def understood(model: type[B], value: Any) -> B:
    """The parsed body. Raises OpenAIProblem (400) with the name of an unsupported parameter,
    RequestValidationError.
    """
    if isinstance(value, dict):
        _require_known(model, value)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RequestValidationError([{**first, "loc": ("body", *first["loc"])}]) from None


def _require_known(model: type[AskBody], value: Mapping[str, Any]) -> None:
    known = model.model_fields.keys() | _IGNORED
    for name, wanted in value.items():
        if name in _REFUSED:
            refused = bool(wanted)
        elif name in _DEFAULTS:
            refused = wanted not in (None, _DEFAULTS[name])
        else:
            refused = name not in known and wanted is not None
        if refused:
            raise unsupported(name[:80], f"{name[:80]} is not supported here.")


class ReasoningOptions(BaseModel):
    """The reasoning effort."""

    effort: AskedEffort | None = None


class TextOptions(BaseModel):
    """The form of the text."""

    format: dict[str, Any] | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponseBody(AskBody):
    """POST /v1/responses."""

    input: str | Objects
    instructions: str | None = None
    previous_response_id: str | None = Field(None, max_length=64)
    max_output_tokens: parameters.MaxTokens | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None

    @property
    def length(self) -> int:
        """How many messages there are."""
        return 1 if isinstance(self.input, str) else len(self.input)

    @property
    def follows(self) -> str | None:
        return self.previous_response_id

    @property
    def references(self) -> set[str]:
        items = () if isinstance(self.input, str) else self.input
        ids = {str(item.get("id")) for item in items if item.get("type") == _REFERENCE}
        found = {name for name in ids if not name.startswith("rs_")}  # thoughts are ignored
        if len(found) > MAX_REFERENCES:
            reason = f"There are more than {MAX_REFERENCES} references to items."
            raise OpenAIProblem(400, "invalid_value", reason, "input")
        return found

    def resolve(self, items: Mapping[str, Mapping[str, Any]]) -> None:
        if not isinstance(self.input, str):
            self.input = [
                dict(items.get(str(item.get("id")), _THOUGHT))
                if item.get("type") == _REFERENCE
                else item
                for item in self.input
            ]

    @property
    def requests(self) -> set[str]:
        found = set[str]() if isinstance(self.input, str) else open_requests(self.input)
        if len(found) > MAX_REFERENCES:
            reason = f"There are more than {MAX_REFERENCES} approval requests."
            raise OpenAIProblem(400, "invalid_value", reason, "input")
        return found

    @property
    def _is_attended(self) -> bool:
        return self.store is not False

    def question(
        self,
        asker: Asker,
        model: str,
        follows: Message | None = None,
        requests: Mapping[str, PastCall] | None = None,
    ) -> Question:
        """The parsed question. Raises OpenAIProblem (400)."""
        if self.background and self.store is False:
            raise OpenAIProblem(
                400, "invalid_value", "A background response has to be stored.", "background"
            )
        if self.text and self.text.verbosity not in (None, _DEFAULTS["verbosity"]):
            raise unsupported("text.verbosity", "text.verbosity is not supported here.")
        effort = self.reasoning.effort if self.reasoning else None
        wanted = self.text.format if self.text else None
        asked = present(
            background=self.background or None,
            store=self.store,
            metadata=self.metadata,
            instructions=self.instructions,
            previous_response_id=self.previous_response_id,
            max_output_tokens=self.max_output_tokens,
            max_tool_calls=self.max_tool_calls,
            temperature=self.temperature,
            reasoning_effort=effort,
            text_format=wanted,
            **self._shown,
        )
        if not isinstance(self.input, str) and len(self.input) > MAX_MESSAGES:
            raise OpenAIProblem(
                400, "invalid_value", f"There are more than {MAX_MESSAGES} items.", "input"
            )
        owed = owed_by(shown_answer(follows), functions_of(follows)) if follows else Owed()
        asked_turns = turns_of_items(self.input, replace(owed, repeated=requests or {}))
        choices = self._choices(asker.terms)
        require_offered(choices, asked_turns.approved)
        return Question(
            user_id=asker.user_id,
            turns=asked_turns.turns,
            model=model,
            instructions=self.instructions or None,
            follows=follows,
            options=self._options(self.max_output_tokens, effort),
            asked=asked,
            response_schema=_schema("text.format", wanted),
            tools=choices,
            approvals=asked_turns.approvals(int(asker.terms.tool_approval_seconds * 1000)),
        )

    def param(self, parameter: str) -> str:
        return {"max_tokens": "max_output_tokens", "reasoning_effort": "reasoning.effort"}.get(
            parameter, parameter
        )


class StreamOptions(BaseModel):
    """Additional fields of a stream of chunks."""

    include_usage: bool | None = None


class CompletionsBody(AskBody):
    """POST /v1/chat/completions."""

    messages: Objects = Field(min_length=1, max_length=MAX_MESSAGES)
    n: int | None = None
    stop: parameters.Stop | parameters.Stops | None = None
    max_tokens: parameters.MaxTokens | None = None
    max_completion_tokens: parameters.MaxTokens | None = None
    reasoning_effort: AskedEffort | None = None
    response_format: dict[str, Any] | None = None
    stream_options: StreamOptions | None = None

    def param(self, parameter: str) -> str:
        if parameter == "max_tokens" and self.max_completion_tokens is not None:
            return "max_completion_tokens"
        return parameter

    @property
    def length(self) -> int:
        """How many messages there are."""
        return len(self.messages)

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            bool(self.stream),
            bool(self.background),
            bool(self.stream_options and self.stream_options.include_usage),
        )

    def question(
        self,
        asker: Asker,
        model: str,
        _follows: Message | None = None,
        _requests: Mapping[str, PastCall] | None = None,
    ) -> Question:
        """The parsed question. Raises OpenAIProblem (400)."""
        if self.n not in (None, 1):
            raise unsupported("n", "There is one answer to a question here: n must be 1.")
        limit = self.max_completion_tokens or self.max_tokens
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        return Question(
            user_id=asker.user_id,
            turns=turns_of_messages(self.messages),
            model=model,
            options=self._options(limit, self.reasoning_effort, stop),
            asked=present(
                store=self.store,
                metadata=self.metadata,
                max_output_tokens=limit,
                temperature=self.temperature,
                **self._shown,
            ),
            response_schema=_schema("response_format", self.response_format),
            tools=self._choices(asker.terms),
        )


def _schema(param: str, wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    """The JSON schema of `text.format` (Responses) or `response_format` (chat); {} for any JSON."""
    kind = (wanted or {}).get("type", "text")
    if wanted is None or kind == "text":
        return None
    if kind == "json_object":
        return {}
    holder = wanted.get("json_schema", wanted)
    schema = holder.get("schema") if isinstance(holder, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        raise OpenAIProblem(
            400,
            "invalid_value",
            f"{param} must be text, json_object, or json_schema with a schema.",
            param,
        )
    return schema
