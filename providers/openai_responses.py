"""Pure: the dialect `openai.responses` (POST /responses), in the foreground and in the background.

Whole is an answer with `response.completed` or `response.incomplete`; `response.failed`, `response.cancelled` and `error` events (nested
or flat) are failures. Local servers send some things only in `output_item.done`, others in deltas, so each item counts what it has given
and the rest is taken from its end; an item that holds more text at its end than its deltas gave has lost a piece. Items of other kinds
(tools of the provider's or of the client's own kind, images, approvals) are kept and sent back as they came. Quirks: `background: true`
runs the answer on the provider's side; it can be attached to again by its id after any sequence number (`Continuation.run_id`, `.cursor`),
and goes on until it is cancelled. `encrypted_reasoning: false`: some servers refuse to be asked for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from tokenwire.providers.base import (
    REASONING,
    Attachment,
    FinishReason,
    HistoryMessage,
    InvalidRequest,
    KeptDelta,
    Request,
    Unavailable,
)
from tokenwire.providers.content import (
    arguments_text,
    data_url,
    interleaved,
    system_text,
    tool_choice,
    turns,
    unsupported,
)
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.dialect import Call, Dialect
from tokenwire.providers.fields import Unreadable, counter, loose, mapping, place, word, words
from tokenwire.providers.spec import ModelSpec, Preset

API = "openai.responses"
FINISH: Mapping[str, FinishReason] = {
    "completed": "stop",
    "incomplete": "unknown",
    "failed": "error",
    "cancelled": "error",
}
_INCOMPLETE: Mapping[str, FinishReason] = {
    "max_output_tokens": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}
_REASONING = (
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
    "response.reasoning.delta",
)
_FINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


_KNOWN = ("message", "function_call", "reasoning")
_ASKING = frozenset(
    {
        "apply_patch_call",
        "computer_call",
        "custom_tool_call",
        "local_shell_call",
        "mcp_approval_request",
        "shell_call",
        "tool_search_call",
    }
)
"""Kinds of items that wait for the client, unless their output stands in the same answer."""


class ResponsesDecoder(Decoder):
    """Events of a response, and a whole response where a stream was asked for."""

    dialect = API
    finish_reasons = FINISH

    def __init__(self, resumed_after: int | None = None) -> None:
        super().__init__()
        self.cursor = resumed_after
        self._after = resumed_after
        self._emitted_chars: dict[Any, int] = {}
        """Characters that each output item has given so far."""
        self._open: dict[Any, Mapping[str, Any]] = {}
        """Items that have begun and not ended."""
        self._ended_items: set[Any] = set()
        self._asking: set[Any] = set()

    def _object(self, name: bytes, item: dict[str, Any]) -> None:
        kind = words(item.get("type")) or name.decode("utf-8", "replace")
        number = counter(item.get("sequence_number"))
        if number is not None:
            if self._after is not None and number <= self._after and kind not in _FINAL:
                return  # a resumed stream may repeat what was had
            self.cursor = number
        if kind == "response.output_text.delta":
            self._emit_piece(_key(item), item["delta"], self._emit_text)
        elif kind == "response.refusal.delta":
            self._emit_piece(_key(item), item["delta"], self._emit_refusal)
        elif kind in _REASONING:
            self._emit_piece(_key(item), item["delta"], self._emit_reasoning)
        elif kind == "response.function_call_arguments.delta":
            self._tools.piece(_key(item), None, None, words(item["delta"]))
        elif kind == "response.output_item.added":
            self._item_added(_key(item), mapping(item["item"]))
        elif kind == "response.output_item.done":
            self._item_done(_key(item), mapping(item["item"]))
        elif kind in _FINAL:
            self._final(mapping(item["response"]))
        elif kind in ("response.created", "response.in_progress", "response.queued"):
            self._begin(loose(item["response"]))
        elif kind == "response.function_call_arguments.done":
            self._tools.whole(_key(item), words(item.get("arguments")))
        elif kind == "response.output_text.annotation.added":
            self._annotation(loose(item.get("annotation")))
        elif item.get("object") == "response":
            self._final(item)
        elif error := self._error_of(item):
            self._fail(error)

    def _begin(self, response: Mapping[str, Any]) -> None:
        self._start(response.get("id"), response.get("model"))
        if response.get("background"):
            self.run_id = word(response.get("id"))

    def _emit_piece(self, key: Any, piece: Any, emit: Callable[[Any], None]) -> None:
        if key not in self._emitted_chars:
            self._count_held()
        self._emitted_chars[key] = self._emitted_chars.get(key, 0) + len(words(piece))
        emit(piece)

    def _annotation(self, note: Mapping[str, Any]) -> None:
        if word(note.get("url")):
            self._cite(note.get("url"), note.get("title"))
        elif note:
            self._keep("citation", note)

    def _item_added(self, key: Any, item: Mapping[str, Any]) -> None:
        if item.get("type") == "function_call":
            self._call(key, item)
        self._count_held()
        self._open[key] = item

    def _call(self, key: Any, item: Mapping[str, Any]) -> None:
        if not self._tools.known(key):
            echo = {"item_id": item["id"]} if item.get("id") else None
            self._tools.piece(
                key, item.get("call_id") or item.get("id"), item.get("name"), None, echo
            )

    def _item_done(self, key: Any, item: Mapping[str, Any]) -> None:
        if key in self._ended_items:
            return  # the final event says all of them again
        self._count_held()
        self._ended_items.add(key)
        begun_here = self._open.pop(key, None) is not None or self._after is None
        kind = words(item.get("type"))
        if kind == "function_call":
            self._call(key, item)
            self._tools.whole(key, words(item.get("arguments")))
            self._tools.end(key)
        elif kind == "message":
            self._message_done(key, self._parts(item.get("content")), begun_here=begun_here)
        elif kind == "reasoning":
            self._reasoning_done(key, item, begun_here=begun_here)
        else:
            self._other_done(kind, item)

    def _message_done(
        self, key: Any, content: Sequence[Mapping[str, Any]], *, begun_here: bool
    ) -> None:
        said = [(words(part.get("text")), words(part.get("refusal"))) for part in content]
        given, length = (
            self._emitted_chars.get(key, 0),
            sum(len(text) + len(refusal) for text, refusal in said),
        )
        if not begun_here:
            pass  # what is missing was given by the stream that this one resumes
        elif not given:
            for text, refusal in said:
                self._emit_piece(key, text, self._emit_text)
                self._emit_piece(key, refusal, self._emit_refusal)
        elif length > given:
            raise Unreadable("a piece of the text did not arrive")
        for part in content:
            if not ("text" in part or "refusal" in part):
                self._keep(word(part.get("type")) or "part", part)

    def _reasoning_done(self, key: Any, item: Mapping[str, Any], *, begun_here: bool) -> None:
        if begun_here and not self._emitted_chars.get(key):
            for part in (*self._parts(item.get("summary")), *self._parts(item.get("content"))):
                self._emit_piece(key, part.get("text"), self._emit_reasoning)
        if item.get("encrypted_content"):
            self._keep(
                REASONING,
                {
                    name: item[name]
                    for name in ("type", "id", "summary", "encrypted_content")
                    if name in item
                },
            )

    def _other_done(self, kind: str, item: Mapping[str, Any]) -> None:
        self._keep(kind or "item", item)
        call = item.get("call_id") or item.get("id")
        if kind in _ASKING and item.get("execution") != "server":
            self._asking.add(place(call))
        elif kind.endswith("_output"):
            self._asking.discard(place(call))

    def _final(self, response: Mapping[str, Any]) -> None:
        self._begin(response)
        self._usage_of(response.get("usage"))
        status = words(response.get("status")) or "completed"
        self._finish(status)
        if status in ("failed", "cancelled"):
            self.run_over = True
            error = response.get("error") or {
                "message": f"the response was {status}",
                "code": status,
            }
            self._fail(
                self._error_of({"error": error})
                or Unavailable(f"the response was {status}", code=status)
            )
            return
        self._rest_of(self._parts(response.get("output")))
        if status == "incomplete":
            reason = loose(response.get("incomplete_details")).get("reason")
            self.finish_reason = _INCOMPLETE.get(str(reason), "unknown")
        self._calls_are_the_reason()
        self._complete()

    def _rest_of(self, output: Sequence[Mapping[str, Any]]) -> None:
        """What the final event holds beyond what was streamed: some servers say things only there. A resumed stream lacks the beginning."""
        keys = {*self._emitted_chars, *self._open, *self._ended_items}
        numbered = not keys or any(isinstance(key, int) for key in keys)
        if self._after is None:
            for index, item in enumerate(output):
                self._item_done(index if numbered else item.get("id"), item)
        for key, item in list(self._open.items()):
            if item.get("type") not in _KNOWN:
                self._item_done(key, item)

    def _calls_are_the_reason(self) -> None:
        super()._calls_are_the_reason()
        if self._asking and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def _proved(self) -> bool:
        return False  # nothing but the final event proves it, and that completes at once

    def _usage_of(self, usage: Any) -> None:
        if not (usage := loose(usage)):
            return
        given, written = (
            loose(usage.get("input_tokens_details")),
            loose(usage.get("output_tokens_details")),
        )
        self._count(
            usage.get("input_tokens"),
            usage.get("output_tokens"),
            given.get("cached_tokens"),
            written.get("reasoning_tokens"),
            given.get("cache_write_tokens"),
        )


def _key(item: Mapping[str, Any]) -> Any:
    # Some gateways change an item's id in the middle of a stream, so its place in the output comes first.
    index = item.get("output_index")
    return place(
        item.get("item_id") or loose(item.get("item")).get("id") if index is None else index
    )


# --- requests -------------------------------------------------------------------------------------------------------


def build(request: Request, spec: ModelSpec, preset: Preset) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot carry."""
    quirks = {**preset.quirks, **spec.options}
    going_on = request.continuation
    if going_on and going_on.rung == "attach":
        return _attach(going_on.run_id, going_on.cursor)
    if request.stop:
        raise InvalidRequest("openai.responses takes no stop sequences", code="unsupported_option")
    messages = turns(request, API)
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
    _add_options(body, request)
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
    if message.role == "tool":
        return [
            {
                "type": "function_call_output",
                "call_id": message.tool_call_id,
                "output": message.text,
            }
        ]
    items: list[dict[str, Any]] = []
    if message.parts or not message.kept:
        items += (
            [{"role": message.role, "content": _content(message)}]
            if message.text.strip() or message.parts
            else []
        )
    else:
        for piece in interleaved(message, API):
            items += _said(message.role, piece) if isinstance(piece, str) else _kept(piece, message)
    items += [
        {
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": arguments_text(call),
        }
        for call in message.tool_calls
    ]
    return items


def _said(role: str, text: str) -> list[dict[str, Any]]:
    return [{"role": role, "content": text}] if text.strip() else []


def _kept(item: KeptDelta, message: HistoryMessage) -> list[dict[str, Any]]:
    """An item as it came. One that still waits for an answer is refused by the API, and so are thoughts that nothing follows."""
    if (
        item.kind in _ASKING
        and item.value.get("execution") != "server"
        and not _is_answered(item, message)
    ):
        return []
    if item.kind == REASONING and not (message.text.strip() or message.tool_calls):
        return []
    return [dict(item.value)] if item.kind in (REASONING, item.value.get("type")) else []


def _is_answered(item: KeptDelta, message: HistoryMessage) -> bool:
    others = (kept.item for kept in message.kept)
    return any(
        other.kind.endswith("_output") and other.value.get("call_id") == item.value.get("call_id")
        for other in others
    )


def _content(message: HistoryMessage) -> str | list[dict[str, Any]]:
    if not message.parts:
        return message.text
    text = [{"type": "input_text", "text": message.text}] if message.text else []
    return text + [_part(part) for part in message.parts]


def _part(part: Attachment) -> dict[str, Any]:
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


def _add_options(body: dict[str, Any], request: Request) -> None:
    if request.schema == {}:
        body["text"] = {"format": {"type": "json_object"}}
    elif request.schema is not None:
        body["text"] = {
            "format": {
                "type": "json_schema",
                "name": "answer",
                "schema": request.schema,
                "strict": True,
            }
        }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    if request.reasoning_effort:
        body["reasoning"] = {"effort": request.reasoning_effort, "summary": "auto"}


DIALECT = Dialect(API, ResponsesDecoder, build, cancel, takes_prefix=False)
