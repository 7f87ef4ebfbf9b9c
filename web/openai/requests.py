"""Requests of OpenAI clients, and what they ask of a model.

Supported: messages of text (with their history), instructions, and generation options (temperature,
length, effort, stop, JSON). Unsupported options that would change the answer (tools, images,
several choices, ...) are refused by name; others (`user`, `seed`, `service_tier`, ...) are ignored,
and dropped after parsing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tokenwire.models.responses import PastTurn, Question
from tokenwire.models.tables import Message
from tokenwire.protocol.values import present
from tokenwire.web.openai.errors import OpenAIProblem, unsupported

MAX_MESSAGES = 10_000
MAX_TOKENS = 2**31 - 1
_TEXTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Types of content parts that are text, and the member that holds it."""
_REFUSED = (
    "audio",
    "conversation",
    "functions",
    "function_call",
    "prediction",
    "prompt",
    "tools",
    "web_search_options",
    "logprobs",
)
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


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
    temperature: float | None = Field(None, ge=0, le=2)

    @property
    def follows(self) -> str | None:
        """The response that this one continues."""
        return None

    @property
    def wanted(self) -> "Wanted":
        """How the answer is to be sent."""
        return Wanted(bool(self.stream), bool(self.background))

    @property
    def length(self) -> int:
        """How many messages there are."""
        raise NotImplementedError

    def question(self, user_id: str, model: str, follows: Message | None = None) -> Question:
        """The parsed question. Raises OpenAIProblem (400)."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Wanted:
    """The part of a body that is needed until its answer has ended."""

    stream: bool
    background: bool = False
    include_usage: bool = False


B = TypeVar("B", bound=AskBody)


def understood(model: type[B], value: Any) -> B:
    """The parsed body. Raises OpenAIProblem (400) with the name of an unsupported parameter,
    RequestValidationError.
    """
    if isinstance(value, dict):
        for name in _REFUSED:
            if value.get(name):
                raise unsupported(name, f"{name} is not supported here.")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RequestValidationError([{**first, "loc": ("body", *first["loc"])}]) from None


class ReasoningOptions(BaseModel):
    """The reasoning effort."""

    effort: Effort | None = None


class TextOptions(BaseModel):
    """The form of the text."""

    format: dict[str, Any] | None = None


class ResponseBody(AskBody):
    """POST /v1/responses."""

    input: str | Objects
    instructions: str | None = None
    previous_response_id: str | None = Field(None, max_length=64)
    max_output_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None

    @property
    def length(self) -> int:
        """How many messages there are."""
        return 1 if isinstance(self.input, str) else len(self.input)

    @property
    def follows(self) -> str | None:
        return self.previous_response_id

    def question(self, user_id: str, model: str, follows: Message | None = None) -> Question:
        """The parsed question. Raises OpenAIProblem (400)."""
        if self.background and self.store is False:
            raise OpenAIProblem(
                400, "invalid_value", "A background response has to be stored.", "background"
            )
        effort = self.reasoning.effort if self.reasoning else None
        wanted = self.text.format if self.text else None
        asked = present(
            background=self.background or None,
            store=self.store,
            metadata=self.metadata,
            instructions=self.instructions,
            previous_response_id=self.previous_response_id,
            max_output_tokens=self.max_output_tokens,
            temperature=self.temperature,
            reasoning_effort=effort,
            text_format=wanted,
        )
        return Question(
            user_id=user_id,
            turns=_checked_turns(
                "input",
                [PastTurn("user", self.input)]
                if isinstance(self.input, str)
                else _items(self.input),
            ),
            model=model,
            instructions=self.instructions or None,
            follows=follows,
            options=_options(self.temperature, self.max_output_tokens, effort, None),
            asked=asked,
            response_schema=_schema("text.format", wanted),
        )


class StreamOptions(BaseModel):
    """Additional fields of a stream of chunks."""

    include_usage: bool | None = None


class CompletionsBody(AskBody):
    """POST /v1/chat/completions."""

    messages: Objects = Field(min_length=1, max_length=MAX_MESSAGES)
    n: int | None = None
    stop: str | Annotated[list[str], Field(fail_fast=True)] | None = None
    max_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_TOKENS)
    reasoning_effort: Effort | None = None
    response_format: dict[str, Any] | None = None
    stream_options: StreamOptions | None = None

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

    def question(self, user_id: str, model: str, _follows: Message | None = None) -> Question:
        """The parsed question. Raises OpenAIProblem (400)."""
        if self.n not in (None, 1):
            raise unsupported("n", "There is one answer to a question here: n must be 1.")
        limit = self.max_completion_tokens or self.max_tokens
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        return Question(
            user_id=user_id,
            turns=_checked_turns("messages", _messages(self.messages)),
            model=model,
            options=_options(self.temperature, limit, self.reasoning_effort, stop),
            asked=present(
                store=self.store,
                metadata=self.metadata,
                max_output_tokens=limit,
                temperature=self.temperature,
            ),
            response_schema=_schema("response_format", self.response_format),
        )


def _options(
    temperature: float | None,
    max_tokens: int | None,
    effort: Effort | None,
    stop: Sequence[str] | None,
) -> dict[str, Any]:
    known = {"none": None, "xhigh": "high", "max": "high"}.get(effort or "", effort)
    return present(
        temperature=temperature,
        max_tokens=max_tokens,
        reasoning_effort=known,
        stop=stop or None,
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


def _checked_turns(param: str, messages: Iterable[PastTurn]) -> list[PastTurn]:
    turns = [message for message in messages if message.content.strip()]
    if not any(message.role != "system" for message in turns):
        raise OpenAIProblem(400, "invalid_value", f"{param} holds nothing to answer.", param)
    return turns


def _items(items: Sequence[dict[str, Any]]) -> Iterable[PastTurn]:
    if len(items) > MAX_MESSAGES:
        raise OpenAIProblem(
            400, "invalid_value", f"There are more than {MAX_MESSAGES} items.", "input"
        )
    for number, item in enumerate(items):
        place = f"input[{number}]"
        kind = item.get("type", "message")
        if kind == "message":
            yield _message(item, place)
        elif kind != "reasoning":  # a model's earlier thoughts are ignored
            raise unsupported(place, f"Items of type {str(kind)[:80]!r} are not supported here.")


def _messages(messages: Sequence[dict[str, Any]]) -> Iterable[PastTurn]:
    for number, message in enumerate(messages):
        place = f"messages[{number}]"
        if message.get("tool_calls") or message.get("role") in ("tool", "function"):
            raise unsupported(place, "Tool calls are not supported here.")
        yield _message(message, place)


def _message(message: dict[str, Any], place: str) -> PastTurn:
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise OpenAIProblem(400, "invalid_value", f"{place}: no such role.", f"{place}.role")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return PastTurn(role, content or "")
    if not isinstance(content, list):
        raise OpenAIProblem(
            400,
            "invalid_value",
            f"{place}: content is text or a list of parts.",
            f"{place}.content",
        )
    return PastTurn(
        role,
        "".join(_part(part, f"{place}.content[{index}]") for index, part in enumerate(content)),
    )


def _part(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind not in _TEXTS:
        raise unsupported(
            place, f"Content of type {kind[:80]!r} is not supported here: only text is."
        )
    text = part.get(_TEXTS[kind]) if isinstance(kind, str) else None
    if not isinstance(text, str):
        raise OpenAIProblem(400, "invalid_value", f"{place}: no text.", place)
    return text
