"""Pure: the dialect `openai.responses` (POST /responses), in the foreground and in the background.

Whole is an answer with `response.completed` or `response.incomplete`; `response.failed`, `response.cancelled` and `error` events (nested
or flat) are failures. Local servers send some things only in `output_item.done`, others in deltas, so each item counts what it has given
and the rest is taken from its end. Quirks: `background: true` runs the answer on the provider's side; it can be attached to again by its
id after any sequence number (`Continuation.run_id`, `.cursor`), and goes on until it is cancelled. `encrypted_reasoning: false`: some
servers refuse to be asked for it.
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from providers.base import (
    FinishReason,
    InvalidRequest,
    Message,
    ModelSpec,
    Part,
    Request,
    Unavailable,
)
from providers.content import data_url, json_text, system_text, tool_choice, turns, unsupported
from providers.decoding import Decoder
from providers.dialect import Call, Dialect, Preset

FINISH: Mapping[str, FinishReason] = {"completed": "stop", "incomplete": "unknown", "failed": "error", "cancelled": "error"}
_INCOMPLETE: Mapping[str, FinishReason] = {"max_output_tokens": "length", "max_tokens": "length", "content_filter": "content_filter"}
_REASONING = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta", "response.reasoning.delta")
_FINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")


class ResponsesDecoder(Decoder):
    """Events of a response, and a whole response where a stream was asked for."""

    finish_reasons = FINISH

    def __init__(self, resumed_after: int | None = None) -> None:
        super().__init__()
        self.cursor = resumed_after
        self._given: dict[Any, int] = {}
        """Characters that each output item has given so far."""

    def _object(self, name: bytes, item: dict[str, Any]) -> None:
        kind = item.get("type") or name.decode("utf-8", "replace")
        number = item.get("sequence_number")
        if isinstance(number, int):
            if self.cursor is not None and number <= self.cursor and kind not in _FINAL:
                return  # a resumed stream may repeat what was had
            self.cursor = number
        if kind == "response.output_text.delta":
            self._give(_key(item), item["delta"], self._say)
        elif kind == "response.refusal.delta":
            self._give(_key(item), item["delta"], self._refuse)
        elif kind in _REASONING:
            self._give(_key(item), item["delta"], self._think)
        elif kind == "response.function_call_arguments.delta":
            self._tools.piece(_key(item), None, None, item["delta"])
        elif kind.startswith("response.output_item."):
            self._item(kind, _key(item), item["item"])
        elif kind in _FINAL:
            self._final(item["response"])
        elif kind in ("response.created", "response.in_progress", "response.queued"):
            self._begin(item["response"])
        elif kind == "response.function_call_arguments.done":
            self._tools.whole(_key(item), item.get("arguments") or "")
        elif kind == "response.output_text.annotation.added":
            note = item.get("annotation") or {}
            self._cite(note.get("url"), note.get("title"))
        elif item.get("object") == "response":
            self._final(item)
        elif error := self._error_of(item):
            self._fail(error)

    def _begin(self, response: Mapping[str, Any]) -> None:
        self._start(response.get("id"), response.get("model"))
        if response.get("background") and isinstance(name := response.get("id"), str):
            self.run_id = name

    def _give(self, key: Any, piece: Any, give: Callable[[Any], None]) -> None:
        if piece and isinstance(piece, str):
            self._given[key] = self._given.get(key, 0) + len(piece)
            give(piece)

    def _item(self, kind: str, key: Any, item: Mapping[str, Any]) -> None:
        if item.get("type") == "function_call" and not self._tools.known(key):
            self._call(key, item)
        if kind.endswith(".done"):
            self._item_done(key, item)

    def _call(self, key: Any, item: Mapping[str, Any]) -> None:
        echo = {"item_id": item["id"]} if item.get("id") else None
        self._tools.piece(key, item.get("call_id") or item.get("id"), item.get("name"), None, echo)

    def _item_done(self, key: Any, item: Mapping[str, Any]) -> None:
        kind = item.get("type")
        if kind == "function_call":
            self._tools.whole(key, item.get("arguments") or "")
            self._tools.end(key)
        elif kind == "message" and not self._given.get(key):
            for part in item.get("content") or ():
                self._give(key, part.get("text"), self._say)
                self._give(key, part.get("refusal"), self._refuse)
        elif kind == "reasoning":
            self._reasoning_done(key, item)

    def _reasoning_done(self, key: Any, item: Mapping[str, Any]) -> None:
        if not self._given.get(key):
            for part in (*(item.get("summary") or ()), *(item.get("content") or ())):
                self._give(key, part.get("text"), self._think)
        if item.get("encrypted_content"):
            self._think("", {name: item[name] for name in ("type", "id", "summary", "encrypted_content") if name in item})

    def _final(self, response: Mapping[str, Any]) -> None:
        self._begin(response)
        self._usage_of(response.get("usage"))
        status = response.get("status") or "completed"
        self._finish(status)
        if status in ("failed", "cancelled"):
            self.run_over = True
            error = response.get("error") or {"message": f"the response was {status}", "code": status}
            self._fail(self._error_of({"error": error}) or Unavailable(f"the response was {status}", code=status))
            return
        if not self._given and not self._tools:
            for index, item in enumerate(response.get("output") or ()):
                self._item("response.output_item.done", index, item)
        if status == "incomplete":
            reason = (response.get("incomplete_details") or {}).get("reason")
            self.finish_reason = _INCOMPLETE.get(str(reason), "unknown")
        self._calls_are_the_reason()
        self._complete()

    def _proved(self) -> bool:
        return False  # nothing but the final event proves it, and that completes at once

    def _usage_of(self, usage: Mapping[str, Any] | None) -> None:
        if not usage:
            return
        given, written = usage.get("input_tokens_details") or {}, usage.get("output_tokens_details") or {}
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
    return item.get("item_id") or (item.get("item") or {}).get("id") if index is None else index


# --- requests -------------------------------------------------------------------------------------------------------


def build(request: Request, spec: ModelSpec, preset: Preset) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot carry."""
    quirks = {**preset.quirks, **spec.options}
    going_on = request.continuation
    if going_on and going_on.rung == "attach":
        return _attach(going_on.run_id, going_on.cursor)
    if request.stop:
        raise InvalidRequest("openai.responses takes no stop sequences", code="unsupported_option")
    messages = turns(request)
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
            {"store": False, "include": ["reasoning.encrypted_content"]} if quirks.get("encrypted_reasoning", True) else {"store": False}
        )
    _add_tools(body, request)
    _add_options(body, request)
    body.update(request.extra)
    return Call("/responses", body)


def cancel(run_id: str) -> Call:
    """The call that stops a background run."""
    return Call(f"/responses/{quote(run_id, safe='')}/cancel", {})


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


def _items(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text}]
    items: list[dict[str, Any]] = [dict(echo) for echo in message.reasoning_echo if echo.get("type") == "reasoning"]
    if message.text.strip() or message.parts:
        items.append({"role": message.role, "content": _content(message)})
    items += [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": json_text(call.arguments)}
        for call in message.tool_calls
    ]
    return items


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.parts:
        return message.text
    text = [{"type": "input_text", "text": message.text}] if message.text else []
    return text + [_part(part) for part in message.parts]


def _part(part: Part) -> dict[str, Any]:
    if part.media_type.startswith("image/"):
        return {"type": "input_image", "image_url": part.url or data_url(part)}
    if part.media_type == "application/pdf":
        where = {"file_url": part.url} if part.data is None else {"filename": part.name or "document.pdf", "file_data": data_url(part)}
        return {"type": "input_file", **where}
    if part.media_type.startswith("text/") and part.data is not None:
        return {"type": "input_text", "text": part.data.decode("utf-8", "replace")}
    raise unsupported(part, "openai.responses")


def _add_tools(body: dict[str, Any], request: Request) -> None:
    if not request.tools:
        return
    body["tools"] = [
        {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters, "strict": False}
        for tool in request.tools
    ]
    choice = tool_choice(request)
    if choice:
        body["tool_choice"] = choice if choice in ("auto", "none", "required") else {"type": "function", "name": choice}


def _add_options(body: dict[str, Any], request: Request) -> None:
    if request.schema is not None:
        body["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": request.schema, "strict": True}}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    if request.reasoning_effort:
        body["reasoning"] = {"effort": request.reasoning_effort, "summary": "auto"}


DIALECT = Dialect("openai.responses", ResponsesDecoder, build, cancel, takes_prefix=False)
