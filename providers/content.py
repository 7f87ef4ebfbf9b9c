"""Pure: shared by the request builders of all dialects: which messages are sent, and bytes in
JSON.
"""

import base64
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tokenwire.protocol.text import input_object
from tokenwire.providers import parameters
from tokenwire.providers.base import Continuation, InvalidRequest, Request, UnsupportedParameter
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    HistoryMessage,
    HistoryPart,
    Kept,
    KeptPart,
    ReasoningPart,
    ResultPart,
    StepPart,
    TextPart,
)
from tokenwire.providers.spec import ModelSpec, Preset
from tokenwire.providers.tool_calls import parsed_arguments

CONTINUE = (
    "Your last message was cut off by a technical fault. It ended with:\n«{end}»\n"
    "Go on exactly after these words, in the same language and formatting. Repeat nothing, add "
    "no remark about the interruption."
)
_QUOTED = 100
_ANY_JSON = "Answer with one JSON object and nothing else: no text around it, no code fence."
NO_RESULT = "This call has no result: the answer that made it ended before it was carried out."
SentAlone = Callable[[Kept], bool]
"""Whether a kept part is sent to its dialect by itself: it was not only an accompaniment."""


def nothing(kept: Kept) -> bool:  # noqa: ARG001 - the same for all
    """No part is sent by itself: for dialects whose messages hold only text and calls."""
    return False


def named(kept: Kept) -> bool:
    """An item that names its own kind is sent by itself."""
    return kept.value.get("type") == kept.kind


def alternates(preset: Preset, quirks: Mapping[str, Any]) -> bool:
    """Whether roles must alternate: templates of many models that people run themselves refuse two
    messages of a user in a row. An entry's option `alternate` says otherwise.
    """
    return bool(quirks.get("alternate", preset.local))


def turns(
    request: Request,
    dialect: str,
    model: str,
    sent_alone: SentAlone = nothing,
    *,
    alternating: bool = False,
) -> list[HistoryMessage]:
    """The messages for this dialect and model, in order. `alternating`: a user's messages in a row,
    such as those around a failed answer, become one, with an empty line between their texts.

    Answers are split into their turns at each step, a call without a result gets one that says so,
    other dialects' kept values are left out, and so are messages that become empty. For the rung
    `turn` the partial answer follows, with the request to continue. Raises InvalidRequest if
    nothing is left to answer.
    """
    own = (
        _without_foreign_values(message, dialect, model, sent_alone) for message in request.messages
    )
    split = [turn for message in own for turn in _turns_of(message)]
    messages = list(_answered(message for message in split if not is_empty(message)))
    if request.continuation and request.continuation.rung == "turn":
        messages += _resumption(request.continuation)
    if alternating:
        messages = _with_users_joined(messages)
    if not any(message.role != "system" for message in messages):
        raise InvalidRequest("there is no message to answer", code="no_messages")
    return messages


def _with_users_joined(messages: Iterable[HistoryMessage]) -> list[HistoryMessage]:
    joined: list[HistoryMessage] = []
    for message in messages:
        if joined and joined[-1].role == message.role == "user":
            between = [joined[-1].parts[-1], message.parts[0]]
            texts = all(isinstance(part, TextPart) for part in between)
            line = [TextPart("\n\n")] if texts else []
            parts = [*joined[-1].parts, *line, *message.parts]
            joined[-1] = HistoryMessage("user", _joined(parts))
        else:
            joined.append(message)
    return joined


def _without_foreign_values(
    message: HistoryMessage, dialect: str, model: str, sent_alone: SentAlone
) -> HistoryMessage:
    """Without kept values of other dialects or models."""
    mine = message.model in (None, model)
    parts: list[HistoryPart] = []
    for part in message.parts:
        match part:
            case KeptPart():
                fits = mine and part.dialect == dialect and sent_alone(part)
                parts += [part] if fits else []
            case TextPart(text, kept):
                fitting = [item for item in kept if mine and item.dialect == dialect]
                parts.append(TextPart(text, fitting))
            case ReasoningPart(kept=kept) | CallPart(kept=kept) | Attachment(kept=kept):
                fits = mine and kept is not None and kept.dialect == dialect
                parts.append(part if fits else replace(part, kept=None))
            case _:
                parts.append(part)
    return HistoryMessage(message.role, _joined(parts), message.model)


def _joined(parts: Iterable[HistoryPart]) -> Iterator[HistoryPart]:
    """Adjacent texts are joined unless a kept value separates them."""
    open_: list[str] = []
    for part in parts:
        if isinstance(part, TextPart) and not part.kept:
            open_.append(part.text)
            continue
        if open_:
            yield TextPart("".join(open_))
            open_ = []
        yield part
    if open_:
        yield TextPart("".join(open_))


def _turns_of(message: HistoryMessage) -> Iterator[HistoryMessage]:
    """An answer with results or steps as assistant turn, results, assistant turn, ..."""
    if message.role != "assistant":
        yield message
        return
    parts: list[HistoryPart] = []
    results: list[HistoryPart] = []
    for part in (*message.parts, StepPart()):
        if isinstance(part, ResultPart):
            results.append(part)
        elif isinstance(part, StepPart):
            yield HistoryMessage("assistant", parts, message.model)
            yield HistoryMessage("tool", results)
            parts, results = [], []
        else:
            parts.append(part)


def _answered(messages: Iterable[HistoryMessage]) -> Iterator[HistoryMessage]:
    """Add a result for each open call: providers refuse a history without it."""
    waiting: dict[str, CallPart] = {}
    for message in messages:
        if message.role == "tool":
            for part in message.parts:
                if isinstance(part, ResultPart):
                    waiting.pop(part.call_id, None)
        elif message.role != "system":
            yield from _without_result(waiting)
            waiting = {part.id: part for part in message.parts if isinstance(part, CallPart)}
        yield message
    yield from _without_result(waiting)


def _without_result(calls: Mapping[str, CallPart]) -> Iterator[HistoryMessage]:
    if calls:
        results = [ResultPart(call.id, call.name, NO_RESULT, True) for call in calls.values()]
        yield HistoryMessage("tool", results)


def alternating(messages: Iterable[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Wire messages, with neighbours of one role joined (several results, and the user's text after
    them); `key` holds their parts.
    """
    joined: list[dict[str, Any]] = []
    for turn in messages:
        if joined and joined[-1]["role"] == turn["role"]:
            joined[-1][key] += turn[key]
        else:
            joined.append(turn)
    return joined


def document_words(schema: Mapping[str, Any]) -> str:
    """What the model is told, where the API cannot hold it to this schema."""
    if not schema:
        return _ANY_JSON
    return f"{_ANY_JSON} It must fit this JSON Schema:\n{json.dumps(schema, ensure_ascii=False)}"


def check_abilities(request: Request, cannot: Iterable[str]) -> None:
    """Refuses unsupported abilities before the call: `image`, `audio`, `pdf`, `tools`, `schema`.
    Raises InvalidRequest.
    """
    lacking = frozenset(cannot)
    asked = {
        _ability(part)
        for message in request.messages
        for part in message.parts
        if isinstance(part, Attachment) and message.role == "user"
    }
    asked |= {"tools"} if request.tools else set()
    asked |= {"schema"} if request.schema is not None else set()
    if refused := sorted(asked & lacking):
        raise InvalidRequest(
            f"this model cannot take: {', '.join(refused)}", code="unsupported_by_model"
        )


def add_parameters(
    body: dict[str, Any],
    request: Request,
    api: str,
    entry: tuple[ModelSpec, Preset],
    special: Collection[str] = (),
) -> dict[str, Any]:
    """Write the request's parameters at their places, except the `special` ones, which have another
    form on the wire: those are returned for the builder. Raises UnsupportedParameter.
    """
    values, wire = check_parameters(request, api, entry)
    if not request.tools:  # APIs refuse it without tools
        values.pop("parallel_tool_calls", None)
    places = parameters.places(values, wire)
    for name, place in places.items():
        if name not in special:
            _put(body, place.split("."), _plain(values[name]))
    return {name: values[name] for name in places if name in special}


def check_parameters(
    request: Request, api: str, entry: tuple[ModelSpec, Preset]
) -> tuple[dict[str, Any], parameters.WireNames]:
    """The parameters that are set, and the names of all on the wire. Raises
    UnsupportedParameter.
    """
    wire = parameters.wire_of(api, *entry) or {}
    values = parameters.given(request)
    if refused := parameters.refusal(values, api, wire):
        raise UnsupportedParameter(refused.parameter, refused.reason)
    return values, wire


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _put(body: dict[str, Any], path: list[str], value: Any) -> None:
    for step in path[:-1]:
        body = body.setdefault(step, {})
    body[path[-1]] = value


def _ability(part: Attachment) -> str:
    return "pdf" if part.media_type == "application/pdf" else part.media_type.partition("/")[0]


def is_empty(message: HistoryMessage) -> bool:
    """Whether a provider could read nothing in it. A result may be empty text: its id is
    content.
    """
    return not any(_has_content(part) for part in message.parts)


def _has_content(part: HistoryPart) -> bool:
    if isinstance(part, TextPart):
        return bool(part.text.strip())
    return not isinstance(part, ReasoningPart | StepPart)


def _resumption(continuation: Continuation) -> Iterable[HistoryMessage]:
    text = continuation.text
    yield HistoryMessage("assistant", text.rstrip())
    yield HistoryMessage("user", CONTINUE.format(end=text[-_QUOTED:]))


def system_text(messages: Iterable[HistoryMessage]) -> str:
    """All system messages as one text, for dialects with separate instructions."""
    return "\n\n".join(message.text for message in messages if message.role == "system")


def data_url(part: Attachment) -> str:
    """`data:image/png;base64,...`"""
    return f"data:{part.media_type};base64,{encoded(part)}"


def encoded(part: Attachment) -> str:
    """The part's bytes in base64."""
    return base64.b64encode(part.data or b"").decode()


def check_bytes(part: Attachment, api: str) -> None:
    """Raises InvalidRequest for a part without bytes, for dialects without addresses."""
    if part.data is None:
        raise InvalidRequest(
            f"{api} takes {part.media_type} as bytes, not by URL", code="unsupported_part"
        )


def unsupported(part: Attachment, api: str) -> InvalidRequest:
    """The error for a media type that the dialect cannot express."""
    return InvalidRequest(f"{api} cannot take {part.media_type}", code="unsupported_part")


def input_of_user(
    message: HistoryMessage, text_type: str, attachment: Callable[[Attachment], dict[str, Any]]
) -> str | list[dict[str, Any]]:
    """A user's content for OpenAI's APIs: a text, or a list if it holds attachments.

    `text_type`: what an item of text is called. `attachment` makes the item of an attachment.
    """
    if all(isinstance(part, TextPart) for part in message.parts):
        return message.text
    items = list[dict[str, Any]]()
    for part in message.parts:
        if isinstance(part, TextPart) and part.text.strip():
            items.append({"type": text_type, "text": part.text})
        elif isinstance(part, Attachment):
            items.append(attachment(part))
    return items


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


def spoken(part: Attachment) -> str:
    """A generated file in words, for dialects without files in answers."""
    return f"[file: {part.name or part.media_type}]"


def extra_of(call: CallPart) -> Mapping[str, Any]:
    """The other fields of the provider's call besides id, name and arguments."""
    return call.kept.value if call.kept else {}


def input_of(call: CallPart) -> dict[str, Any]:
    """The arguments as an object, for dialects that accept only objects.

    An object that readers see as `invalid` is none: nested too deeply, it might be impossible to
    encode within a request.
    """
    arguments = parsed_arguments(call.input)
    if isinstance(arguments, Mapping) and input_object(call.input) is not None:
        return dict(arguments)
    return {"unreadable": call.input}
