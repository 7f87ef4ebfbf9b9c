"""Requests of AI SDK clients (ai 5 to 7; docs/ai-sdk.md).

The whole history comes with every request and is ignored: the stored one counts. Only one message
is read: the last one, which is the user's, or an assistant's with decisions about its calls (also
an earlier one that the request names), and for a regeneration the named id.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from pydantic import ValidationError

from tokenwire.config.settings import Settings
from tokenwire.models.conversations import Policy
from tokenwire.protocol.text import storable
from tokenwire.providers.parameters import Parameters
from tokenwire.web.aisdk.continued import ClientMessage, ToolPart
from tokenwire.web.aisdk.tools import choices_in
from tokenwire.web.http.bodies import MAX_ID, decode, is_id, surveyed
from tokenwire.web.problems import ApiProblem

T = TypeVar("T")
Trigger = Literal["submit-message", "regenerate-message"]


class ChatRequest(msgspec.Struct, frozen=True):
    """The body of `POST /api/chat` with its last user message. `text` is None if there is no such
    message.
    """

    chat_id: str
    trigger: Trigger
    message_id: str | None
    model: str | None
    user_message_id: str | None
    text: str | None
    options: Mapping[str, Any] | None = None
    tools: Mapping[str, Any] | None = None
    """What it says about tools (`tools.choices_in`); None: nothing."""
    continued: ClientMessage | None = None
    """The assistant's message that the client continues."""
    while_running: Policy | None = None
    """None: as the setting says."""


_NO_MESSAGE = msgspec.Raw(b"null")
_Name = Annotated[str, msgspec.Meta(extra_json_schema={"minLength": 1, "maxLength": MAX_ID})]
"""An id, or the name of a model. `name` and the list of models check it, and say more than the
decoder would.
"""
_OBJECT: dict[str, Any] = {"type": "object"}
_MAYBE_OBJECT: dict[str, Any] = {"anyOf": [_OBJECT, {"type": "null"}]}
_Unread = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=_OBJECT)]
_MaybeUnread = Annotated[msgspec.Raw, msgspec.Meta(extra_json_schema=_MAYBE_OBJECT)]
"""In a union with None, msgspec accepts only None."""


class ChatBody(msgspec.Struct):
    """The body of `useChat`: the whole history or the last message alone; only the last message is
    read.
    """

    id: _Name
    trigger: Trigger = "submit-message"
    message_id: _Name | None = msgspec.field(name="messageId", default=None)
    messages: list[_Unread] | None = None
    message: _MaybeUnread = msgspec.field(default_factory=lambda: _NO_MESSAGE)
    model: _Name | None = None
    options: dict[str, Any] | None = None
    tools: dict[str, Any] | list[Any] | None = None
    active_tools: list[Any] | None = msgspec.field(name="activeTools", default=None)
    tool_choice: str | dict[str, Any] | None = msgspec.field(name="toolChoice", default=None)
    while_running: Policy | None = None


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """A prompt, and the model that answers it (None: the default)."""

    prompt: str
    model: str | None
    options: Mapping[str, Any]


class _UIMessage(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    parts: list[msgspec.Raw]
    id: str = ""


class _Typed(msgspec.Struct):
    """A part before it is known whether it is read."""

    type: str


class CompletionBody(msgspec.Struct):
    """The body of `useCompletion`."""

    prompt: str
    model: _Name | None = None
    options: dict[str, Any] | None = None


_body = msgspec.json.Decoder(ChatBody)
_message = msgspec.json.Decoder(_UIMessage)
_part = msgspec.json.Decoder(dict[str, Any])
_typed = msgspec.json.Decoder(_Typed)
_completion = msgspec.json.Decoder(CompletionBody)


@dataclass(frozen=True, slots=True)
class InputLimits:
    """Limits of parsing. `values`: of a whole body. `message_bytes`: of the one message that is
    read.
    """

    values: int
    message_bytes: int

    @classmethod
    def of(cls, settings: Settings) -> "InputLimits":
        """JSON may escape every character: six bytes at most for each of the text, plus the other
        members.
        """
        return cls(settings.max_body_values, 6 * settings.max_content_bytes + 64 * 1024)


def parse_chat(body: bytes, limits: InputLimits) -> ChatRequest:
    """Parse `{id, messages | message, trigger?, messageId?, model?, options?, tools?, activeTools?,
    toolChoice?, while_running?}`; other fields are ignored. Raises ApiProblem (400, 413, 422).
    """
    surveyed(body, limits.values)
    return _asked(_decode(_body, body, "body"), limits)


class _Login(msgspec.Struct, frozen=True):
    headers: dict[str, Any]


class ChatFrame(msgspec.Struct, frozen=True, rename="camel"):
    """A frame of `WebSocketChatTransport`. The fields besides `type` and `request_id` are those of
    an HTTP request.
    """

    type: Literal["send", "resume", "abort"]
    request_id: str
    id: str = ""
    trigger: Trigger = "submit-message"
    message_id: str | None = None
    messages: list[msgspec.Raw] = msgspec.field(default_factory=list)
    headers: dict[str, Any] = msgspec.field(default_factory=dict)
    body: dict[str, Any] = msgspec.field(default_factory=dict)


_login = msgspec.json.Decoder(_Login)
_frame = msgspec.json.Decoder(ChatFrame)


class Unclean(Exception):
    """A frame may need repairs, which take long."""


def parse_login(text: str) -> str:
    """The `Authorization` among the `headers` of an anonymous frame: nothing else is read or
    repaired. Raises ApiProblem (400).
    """
    try:
        found = login_in(_login.decode(text).headers)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        found = None
    if found is None:
        raise ApiProblem("malformed_json", "That is no login.")
    return found


def login_in(headers: Mapping[str, Any]) -> str | None:
    """The header with the login, if present."""
    return next(
        (
            value
            for name, value in headers.items()
            if name.lower() == "authorization" and isinstance(value, str)
        ),
        None,
    )


def parse_frame(text: str, limits: InputLimits, *, mend: bool = True) -> ChatFrame:
    """Parse a frame. Raises ApiProblem (400, 413, 422), and Unclean if repairs are needed and not
    allowed.
    """
    data = text.encode("utf-8", "surrogatepass")
    surveyed(data, limits.values)
    frame = _decode(_frame, data, "frame") if mend else _clean(_frame, data, "frame")
    name(frame.request_id, "frame.requestId")
    return frame


def asked_in(frame: ChatFrame, limits: InputLimits) -> ChatRequest:
    """The request of a `send` frame. Raises ApiProblem (413, 422)."""
    asked = ChatBody(frame.id, frame.trigger, frame.message_id, frame.messages)
    for field in _IN_FRAMES:
        try:
            value = msgspec.convert(frame.body.get(field.encode_name), field.type)
        except msgspec.ValidationError as error:
            raise invalid(f"frame.body.{field.encode_name}", str(error)) from error
        setattr(asked, field.name, value)
    return _asked(asked, limits)


def last_shown(found: str, place: str = "query.lastMessageId") -> str:
    """The name of the last message that a client shows; empty: it shows none. Raises ApiProblem
    (422).
    """
    return "" if found == "" else name(found, place)


def last_shown_in(frame: ChatFrame) -> str | None:
    """The same of a `resume` frame; None: it does not say. Raises ApiProblem (422)."""
    found = frame.body.get("lastMessageId")
    if found is not None and not isinstance(found, str):
        raise invalid("frame.body.lastMessageId", "a value of another type is needed")
    return None if found is None else last_shown(found, "frame.body.lastMessageId")


_BESIDE = ("id", "trigger", "messageId", "messages", "message")
_IN_FRAMES = [one for one in msgspec.structs.fields(ChatBody) if one.encode_name not in _BESIDE]
"""The fields that `sendMessage` takes as its `body`: a frame holds them in a member of that name.
"""


def _asked(found: ChatBody, limits: InputLimits) -> ChatRequest:
    name(found.id, "body.id")
    if found.message_id is not None:
        name(found.message_id, "body.messageId")
    last = _last_message(found)
    if found.trigger == "submit-message" and last is not None and last.role == "assistant":
        return _continued(found, last)
    text = None if last is None or last.role != "user" else text_of(_parts(last, limits))
    asked = ChatRequest(
        found.id,
        found.trigger,
        found.message_id,
        found.model,
        last.id or None if last else None,
        text,
        options_of(found.options),
        choices_in(found.tools, found.active_tools, found.tool_choice),
        while_running=found.while_running,
    )
    if asked.trigger == "submit-message":
        _fit_to_post(last, text)
    return asked


def _last_message(found: ChatBody) -> _UIMessage | None:
    raw = (
        found.message
        if bytes(found.message) != b"null"
        else found.messages[-1]
        if found.messages
        else None
    )
    if raw is None:
        if found.messages is None:
            raise invalid("body.messages", "a list of UI messages, or `message`, is needed")
        return None
    last = _message_of(raw)
    if found.trigger == "submit-message" and found.message_id not in (None, last.id):
        return _named_message(found) or last
    return last


def _named_message(found: ChatBody) -> _UIMessage | None:
    """The assistant's message that is named: a person may decide about an earlier answer."""
    messages = map(_message_of, reversed(found.messages or []))
    return next(
        (one for one in messages if one.id == found.message_id and one.role == "assistant"), None
    )


def _message_of(raw: msgspec.Raw) -> _UIMessage:
    found = _decode(_message, bytes(raw), "body.messages")
    if found.id:
        name(found.id, "body.messages.id")
    return found


def _continued(found: ChatBody, message: _UIMessage) -> ChatRequest:
    """The request of a client that continues an answer."""
    calls, left = list[ToolPart](), set[str]()
    for raw in message.parts:
        kind = _decode(_typed, bytes(raw), "body.messages.parts").type
        if kind == "step-start":
            left = {call.tool_call_id for call in calls}
        elif kind == "dynamic-tool" or kind.startswith("tool-"):
            calls.append(_tool_part(bytes(raw)))
    if not calls or not message.id:
        raise invalid("body.messages", "the last message is not a user's, and holds no tool call")
    return ChatRequest(
        found.id,
        found.trigger,
        found.message_id,
        found.model,
        None,
        None,
        continued=ClientMessage(message.id, tuple(calls), frozenset(left)),
    )


def _tool_part(raw: bytes) -> ToolPart:
    try:
        return msgspec.convert(decode(raw, once=True), ToolPart)
    except msgspec.ValidationError as error:
        raise invalid("body.messages.parts", str(error)) from error


def _parts(message: _UIMessage, limits: InputLimits) -> list[dict[str, Any]]:
    if sum(map(len, message.parts)) > limits.message_bytes:
        raise ApiProblem(
            "content_too_large", f"The message is longer than {limits.message_bytes} bytes."
        )
    return [_decode(_part, bytes(part), "body.messages.parts") for part in message.parts]


def _fit_to_post(last: _UIMessage | None, text: str | None) -> None:
    if last is None:
        raise invalid("body.messages", "there is no message")
    if last.role != "user":
        raise invalid("body.messages", "the last message is not a user's")
    if text is None or not text.strip():
        raise invalid("body.messages", "the message holds no text")


def text_of(parts: list[dict[str, Any]]) -> str:
    """The text of a user's message; unknown part types are skipped. Raises ApiProblem (422) for
    files, which would be lost.
    """
    texts = []
    for part in parts:
        kind = part.get("type")
        if not isinstance(kind, str):
            raise invalid("body.messages.parts", "a part has a `type`")
        if kind == "file":
            raise invalid("body.messages.parts", "files are not taken")
        if kind == "text":
            if not isinstance(part.get("text"), str):
                raise invalid("body.messages.parts", "a text part has a `text`")
            texts.append(part["text"])
    return storable("\n\n".join(texts))


def options_of(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The parameters of an answer. Raises ApiProblem (422)."""
    if given is None:
        return None
    try:
        options = Parameters.model_validate(given).model_dump(exclude_none=True)
    except ValidationError as error:
        raise invalid(*mistakes(error)) from error
    if "stop" in options:
        options["stop"] = [storable(text) for text in options["stop"]]
    return options


def mistakes(error: ValidationError) -> tuple[str, str]:
    """Place and message of the first invalid parameter."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ".".join(["body.options", *map(str, first["loc"])]), first["msg"]


def parse_completion(body: bytes, limits: InputLimits) -> "PromptRequest":
    """Parse `{prompt, model?, options?}`. Raises ApiProblem (400, 422)."""
    surveyed(body, limits.values)
    found = _decode(_completion, body, "body")
    if not found.prompt.strip():
        raise invalid("body.prompt", "must not be blank")
    return PromptRequest(storable(found.prompt), found.model, options_of(found.options) or {})


def parse_input(body: bytes, limits: InputLimits) -> str:
    """Any JSON value as text for a model: a string as it is. Raises ApiProblem (400)."""
    value = decode(body, limits.values)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)


def name(value: str, field: str) -> str:
    """An id that a client has given: any text of 1 to 255 characters. Raises ApiProblem (422)."""
    if not is_id(value):
        raise invalid(
            field, f"an id has 1 to {MAX_ID} characters, without U+0000, U+FFFD and lone surrogates"
        )
    return value


def _decode(decoder: msgspec.json.Decoder[T], body: bytes, field: str) -> T:
    try:
        return _clean(decoder, body, field)
    except Unclean:
        # JavaScript may send lone surrogates, which this parser refuses. It is tried first because
        # it reads a long history cheaply.
        return _checked(decoder, msgspec.json.encode(decode(body)), field)


def _clean(decoder: msgspec.json.Decoder[T], body: bytes, field: str) -> T:
    try:
        return _checked(decoder, body, field)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Unclean(field) from error


def _checked(decoder: msgspec.json.Decoder[T], body: bytes, field: str) -> T:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(field, str(error)) from error


def invalid(field: str, message: str) -> ApiProblem:
    """A 422 about one value."""
    return ApiProblem(
        "invalid", f"{field}: {message}", errors=[{"field": field, "message": message}]
    )
