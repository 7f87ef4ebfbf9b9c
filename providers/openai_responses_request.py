"""Pure: requests of the dialect `openai.responses`.

Quirks: `background: true` runs the answer on the provider's side; it can be attached to by its id
after any sequence number (`Continuation.run_id`, `.cursor`), and continues until it is cancelled.
`encrypted_reasoning: false`: some servers refuse this request.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from tokenwire.providers.base import InvalidRequest, Request
from tokenwire.providers.content import (
    add_parameters,
    data_url,
    extra_of,
    input_of_user,
    named,
    spoken,
    system_text,
    tool_choice,
    turns,
    unsupported,
)
from tokenwire.providers.dialect import Call, Dialect
from tokenwire.providers.fields import mappings, words
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    HistoryMessage,
    HistoryPart,
    Kept,
    KeptPart,
    ReasoningPart,
    ResultPart,
    TextPart,
)
from tokenwire.providers.openai_responses import API, ASKING, ResponsesDecoder
from tokenwire.providers.schema_forms import strictness
from tokenwire.providers.spec import ModelSpec, Preset

QUIRKS = frozenset({"background", "encrypted_reasoning", "parameters"})


def build(request: Request, spec: ModelSpec, preset: Preset) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot express."""
    quirks = {**preset.quirks, **spec.options}
    going_on = request.continuation
    if going_on and going_on.rung == "attach":
        return _attach(going_on.run_id, going_on.cursor)
    messages = turns(request, API, spec.model, named)
    body: dict[str, Any] = {
        "model": spec.model,
        "input": [item for m in messages if m.role != "system" for item in _items(m)],
        "stream": True,
    }
    if instructions := system_text(messages):
        body["instructions"] = instructions
    if quirks.get("background"):
        body |= {"background": True, "store": True}
    else:
        body |= (
            {"store": False, "include": ["reasoning.encrypted_content"]}
            if quirks.get("encrypted_reasoning", True)
            else {"store": False}
        )
    _add_tools(body, request)
    _add_options(body, request, spec, preset)
    body.update(request.extra)
    return Call("/responses", body, begins_run=bool(body.get("background")))


def cancel(run_id: str) -> Call:
    """The call that stops a background run."""
    return Call(f"/responses/{quote(run_id, safe='')}/cancel", {}, ends_run=True)


def _attach(run_id: str | None, cursor: int | None) -> Call:
    if not run_id:
        raise InvalidRequest("there is no run to attach to", code="no_run_id")
    after = "" if cursor is None else f"&starting_after={cursor}"
    path = f"/responses/{quote(run_id, safe='')}?stream=true{after}"
    return Call(path, None, method="GET", decoder=lambda: _resumed(run_id, cursor), attaches=True)


def _resumed(run_id: str, cursor: int | None) -> ResponsesDecoder:
    decoder = ResponsesDecoder(cursor)
    decoder.run_id = run_id
    return decoder


def _items(message: HistoryMessage) -> list[dict[str, Any]]:
    if message.role == "assistant":
        return _TurnItems(message).items()
    if message.role == "user":
        return [{"role": "user", "content": input_of_user(message, "input_text", _attachment)}]
    return [
        {"type": "function_call_output", "call_id": part.call_id, "output": part.text}
        for part in message.parts
        if isinstance(part, ResultPart)
    ]


class _TurnItems:
    """The items of one assistant turn, in order.

    Reasoning that its provider cannot read again (not encrypted, not stored) does not go back; the
    names of items that it refers to would then be refused. Neither does reasoning that nothing
    follows.
    """

    def __init__(self, message: HistoryMessage) -> None:
        self._parts = message.parts
        self._named = not any(
            isinstance(part, ReasoningPart) and part.kept is None for part in message.parts
        )
        self._items: list[dict[str, Any]] = []
        self._text = ""

    def items(self) -> list[dict[str, Any]]:
        """All items."""
        for part in self._parts:
            match part:
                case TextPart(text):
                    self._text += text
                case Attachment(kept=None):
                    self._text += spoken(part)
                case KeptPart(kind="message", value=value):
                    self._message(value)
                case _:
                    self._flush()
                    self._items += self._item(part)
        self._flush()
        while self._items and self._items[-1].get("type") == "reasoning":
            self._items.pop()
        return self._items

    def _item(self, part: HistoryPart) -> list[dict[str, Any]]:
        match part:
            case ReasoningPart(kept=Kept(value=value)) | Attachment(kept=Kept(value=value)):
                return [dict(value)]
            case KeptPart(value=value):
                return [dict(value)] if self._has_its_answer(part) else []
            case CallPart(id, name, input):
                call = {"type": "function_call", "call_id": id, "name": name, "arguments": input}
                return [{**call, **self._nameless(extra_of(part))}]
        return []

    def _message(self, item: Mapping[str, Any]) -> None:
        """A kept message replaces its text, the last one so far."""
        text = "".join(
            words(part.get("text")) + words(part.get("refusal"))
            for part in mappings(item.get("content"))
        )
        if self._text.endswith(text):
            self._text = self._text[: len(self._text) - len(text)]
            self._flush()
            self._items.append(dict(self._nameless(item)))

    def _nameless(self, item: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._named:
            return item
        return {name: value for name, value in item.items() if name != "id"}

    def _flush(self) -> None:
        if self._text.strip():
            self._items.append({"role": "assistant", "content": self._text})
        self._text = ""

    def _has_its_answer(self, item: KeptPart) -> bool:
        """The API refuses an item that still waits for the client."""
        if item.kind not in ASKING or item.value.get("execution") == "server":
            return True
        return any(
            isinstance(other, KeptPart)
            and other.kind.endswith("_output")
            and other.value.get("call_id") == item.value.get("call_id")
            for other in self._parts
        )


def _attachment(part: Attachment) -> dict[str, Any]:
    if part.media_type.startswith("image/"):
        return {"type": "input_image", "image_url": part.url or data_url(part)}
    if part.media_type == "application/pdf":
        where = (
            {"file_url": part.url}
            if part.data is None
            else {"filename": part.name or "document.pdf", "file_data": data_url(part)}
        )
        return {"type": "input_file", **where}
    if part.media_type.startswith("text/") and part.data is not None:
        return {"type": "input_text", "text": part.data.decode("utf-8", "replace")}
    raise unsupported(part, "openai.responses")


def _add_tools(body: dict[str, Any], request: Request) -> None:
    if not request.tools:
        return
    body["tools"] = [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": False,
        }
        for tool in request.tools
    ]
    choice = tool_choice(request)
    if choice:
        body["tool_choice"] = (
            choice
            if choice in ("auto", "none", "required")
            else {"type": "function", "name": choice}
        )


def _add_options(body: dict[str, Any], request: Request, spec: ModelSpec, preset: Preset) -> None:
    if request.schema == {}:
        body["text"] = {"format": {"type": "json_object"}}
    elif request.schema is not None:
        body["text"] = {
            "format": {"type": "json_schema", "name": "answer", **strictness(request.schema)}
        }
    add_parameters(body, request, API, (spec, preset))
    if "reasoning" in body:
        body["reasoning"]["summary"] = "auto"


DIALECT = Dialect(API, ResponsesDecoder, build, cancel, takes_prefix=False, quirks=QUIRKS)
