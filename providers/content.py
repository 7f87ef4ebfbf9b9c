"""Pure: what the request builders of all dialects share: which messages are sent, and how bytes travel in JSON."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tokenwire.providers.base import (
    REASONING,
    Attachment,
    Continuation,
    HistoryMessage,
    InvalidRequest,
    KeptDelta,
    Request,
    ToolUse,
)

CONTINUE = (
    "Your last message was cut off by a technical fault. It ended with:\n«{end}»\n"
    "Go on exactly after these words, in the same language and formatting. Repeat nothing, add no remark about the interruption."
)
_QUOTED = 100
ANY_JSON = "Answer with one JSON object and nothing else: no text around it, no code fence."
"""For dialects that know no answer in JSON without a schema."""
BESIDE = frozenset({
    *(REASONING, "citation", "container", "choice", "chunk", "candidate", "content", "functionCall", "function", "tool_call"),
    *("text", "thinking", "tool_use", "message", "event", "line", "unknown"),
})  # fmt: skip
"""Kinds of kept items that stood beside an answer: none is an answer alone, and but for reasoning none is sent back."""
_TAKES_ITEMS = frozenset({"anthropic.messages", "openai.responses", "gemini.generateContent"})
"""Dialects that take items back as parts of a message of their own."""


def turns(request: Request, dialect: str) -> list[HistoryMessage]:
    """The messages to send: none that is empty in this dialect; for the rung `turn` the partial answer, too, and a request to go on.

    An assistant message that ends an attempt without content is empty, however many of them there are. Raises InvalidRequest when nothing
    is left to answer.
    """
    messages = [message for message in request.messages if not is_empty(message, dialect)]
    if request.continuation and request.continuation.rung == "turn":
        messages += _resumption(request.continuation)
    if not any(message.role != "system" for message in messages):
        raise InvalidRequest("there is no message to answer", code="no_messages")
    return messages


def alternating(messages: Iterable[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Wire messages, neighbours of one role joined (results of several tools and what a user adds to them); `key` holds their parts."""
    joined: list[dict[str, Any]] = []
    for turn in messages:
        if joined and joined[-1]["role"] == turn["role"]:
            joined[-1][key] += turn[key]
        else:
            joined.append(turn)
    return joined


def check_abilities(request: Request, cannot: Iterable[str]) -> None:
    """Refuses what a model is known not to take, before the call: `image`, `audio`, `pdf`, `tools`, `schema`. Raises InvalidRequest."""
    lacking = frozenset(cannot)
    asked = {_ability(part) for message in request.messages for part in message.parts}
    asked |= {"tools"} if request.tools else set()
    asked |= {"schema"} if request.schema is not None else set()
    if refused := sorted(asked & lacking):
        raise InvalidRequest(
            f"this model cannot take: {', '.join(refused)}", code="unsupported_by_model"
        )


def _ability(part: Attachment) -> str:
    return "pdf" if part.media_type == "application/pdf" else part.media_type.partition("/")[0]


def is_empty(message: HistoryMessage, dialect: str) -> bool:
    """Nothing in it that a provider of this dialect could read. A tool's result may be empty text: its id is content enough."""
    if message.role == "tool" or message.text.strip() or message.parts or message.tool_calls:
        return False
    sent = (kept.item.kind for kept in message.kept if kept.item.dialect == dialect)
    return dialect not in _TAKES_ITEMS or not any(kind not in BESIDE for kind in sent)


def _resumption(continuation: Continuation) -> Iterable[HistoryMessage]:
    text = continuation.text
    yield HistoryMessage("assistant", text.rstrip())
    yield HistoryMessage("user", CONTINUE.format(end=text[-_QUOTED:]))


def merge_neighbours(messages: Iterable[HistoryMessage]) -> list[HistoryMessage]:
    """Neighbouring user or assistant messages as one, for dialects that want the roles to alternate."""
    merged: list[HistoryMessage] = []
    for message in messages:
        last = merged[-1] if merged else None
        if last and last.role == message.role == "user":
            text = "\n\n".join(part for part in (last.text, message.text) if part)
            merged[-1] = replace(last, text=text, parts=(*last.parts, *message.parts))
        else:
            merged.append(message)
    return merged


def system_text(messages: Iterable[HistoryMessage]) -> str:
    """All system messages as one text, for dialects where instructions stand apart."""
    return "\n\n".join(message.text for message in messages if message.role == "system")


def data_url(part: Attachment) -> str:
    """`data:image/png;base64,...`"""
    return f"data:{part.media_type};base64,{encoded(part)}"


def encoded(part: Attachment) -> str:
    """The part's bytes in base64."""
    return base64.b64encode(part.data or b"").decode()


def check_parts(part: Attachment, api: str) -> None:
    """Raises InvalidRequest for a part that has no bytes where the dialect takes no addresses."""
    if part.data is None:
        raise InvalidRequest(
            f"{api} takes {part.media_type} as bytes, not by URL", code="unsupported_part"
        )


def unsupported(part: Attachment, api: str) -> InvalidRequest:
    """The error for a media type that the dialect cannot carry."""
    return InvalidRequest(f"{api} cannot take {part.media_type}", code="unsupported_part")


def tool_choice(request: Request) -> str | None:
    """The choice, checked: a name must be one of the tools. Raises InvalidRequest."""
    choice = request.tool_choice
    if choice in (None, "auto", "none", "required") or any(
        tool.name == choice for tool in request.tools
    ):
        return choice
    raise InvalidRequest(
        f"tool_choice names {choice!r}, which is not among the tools", code="unknown_tool"
    )


def interleaved(message: HistoryMessage, dialect: str) -> Iterator[str | KeptDelta]:
    """The text of an answer and what this dialect kept of it, in the order in which they came."""
    start = 0
    for kept in message.kept:
        if kept.item.dialect == dialect:
            if text := message.text[start : kept.at]:
                yield text
            start = max(start, kept.at)
            yield kept.item
    if text := message.text[start:]:
        yield text


def kept_items(message: HistoryMessage, dialect: str, *kinds: str) -> list[Mapping[str, Any]]:
    """What this dialect kept of an answer, of some kinds, in order."""
    return [
        kept.item.value
        for kept in message.kept
        if kept.item.dialect == dialect and kept.item.kind in kinds
    ]


def input_of(call: ToolUse) -> dict[str, Any]:
    """The arguments as an object, for dialects that take nothing else."""
    return (
        dict(call.arguments)
        if isinstance(call.arguments, Mapping)
        else {"unreadable": call.arguments}
    )


def arguments_text(call: ToolUse) -> str:
    """The arguments as the model wrote them, in JSON."""
    return json_text(call.arguments) if isinstance(call.arguments, Mapping) else call.arguments


def json_text(value: Mapping[str, Any]) -> str:
    """Compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
