"""Pure: the dialect `ollama.chat` (POST /api/chat), JSON lines.

An answer is complete with `done: true`, except for `done_reason: "error"` of LocalAI's clone. An
error in the stream is a line `{"error": "..."}`, the last one. Tool calls come whole, usually
without an id. Quirks: `alternate` (`content.py`), `num_ctx`, `keep_alive`, `think_levels` (the
model accepts `low`, `medium`, `high`, not only yes).
"""

from collections.abc import Mapping
from typing import Any

from tokenwire.providers.base import FinishReason, InvalidRequest, Request
from tokenwire.providers.content import (
    add_parameters,
    alternates,
    check_bytes,
    encoded,
    input_of,
    turns,
    unsupported,
)
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.dialect import Call, Dialect
from tokenwire.providers.embeddings import ollama_call, ollama_vectors
from tokenwire.providers.fields import mapping
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    HistoryMessage,
    HistoryPart,
    ResultPart,
    TextPart,
)
from tokenwire.providers.spec import ModelSpec, Preset

API = "ollama.chat"
QUIRKS = frozenset({"alternate", "keep_alive", "num_ctx", "parameters", "think_levels"})
FINISH: Mapping[str, FinishReason] = {"stop": "stop", "length": "length", "error": "error"}


class OllamaDecoder(Decoder):
    """Lines of a chat, or one object in place of a stream."""

    dialect = API
    finish_reasons = FINISH
    error_is_an_end = False

    def __init__(self) -> None:
        super().__init__()
        self._calls = 0

    # Lines have no names.
    def _object(self, name: bytes, item: dict[str, Any]) -> None:  # noqa: ARG002
        if error := self._error_of(item):
            self._fail(error)
            return
        self._start(None, item.get("model"))
        message = mapping(item.get("message"))
        self._message(message or item)
        for field, value in message.items():
            if field not in _MESSAGE and value:
                self._other(field, value)
        self._keep_rest("line", item, _LINE)
        if item.get("done"):
            self._count(item.get("prompt_eval_count"), item.get("eval_count"))
            # Old servers give no reason at the end.
            self._finish(item.get("done_reason") or "stop")
            self._calls_are_the_reason()
            self._complete()

    def _other(self, field: str, value: Any) -> None:
        if field == "images" and isinstance(value, list):
            for image in value:
                self._file(field, {field: [image]}, "image/png", image)
        else:
            self._grow(field, value)

    def _message(self, message: Mapping[str, Any]) -> None:
        self._emit_reasoning(message.get("thinking"))
        self._emit_text(
            message.get("content") or message.get("response")
        )  # the latter is /api/generate's
        for call in self._parts(message.get("tool_calls")):
            function = mapping(call.get("function"))
            self._keep_rest("tool_call", call, ("id", "type", "function", "index"))
            self._keep_rest("function", function, ("name", "arguments", "index", "description"))
            self._calls += 1  # each comes whole: the next is another, whatever its id
            self._tools.piece(
                self._calls, call.get("id"), function.get("name"), function.get("arguments")
            )


_MESSAGE = frozenset({"role", "content", "thinking", "tool_calls", "tool_name", "tool_call_id"})
_LINE = frozenset({
    *("model", "created_at", "message", "response", "content", "thinking", "tool_calls", "role",
        "done", "done_reason", "context"),
    *("total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count",
        "eval_duration"),
    *("remote_model", "remote_host", "tool_name", "logprobs", "error", "code", "status"),
})  # fmt: skip
"""Fields of a message and of a line that are read or carry no answer; all others are kept."""


# --- requests -------------------------------------------------------------------------------------


def build(request: Request, spec: ModelSpec, preset: Preset) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot express."""
    quirks = {**preset.quirks, **spec.options}
    asked = turns(request, API, spec.model, alternating=alternates(preset, quirks))
    messages = [item for message in asked for item in _messages(message)]
    if request.continuation and request.continuation.rung == "prefix":
        messages.append({"role": "assistant", "content": request.continuation.text})
    body: dict[str, Any] = {"model": spec.model, "messages": messages, "stream": True}
    special = add_parameters(body, request, API, (spec, preset), ("reasoning_effort",))
    if "num_ctx" in quirks:
        body.setdefault("options", {})["num_ctx"] = quirks["num_ctx"]
    if request.schema is not None:
        body["format"] = request.schema or "json"
    if effort := special.get("reasoning_effort"):
        body["think"] = effort if quirks.get("think_levels") else True
    if "keep_alive" in quirks:
        body["keep_alive"] = quirks["keep_alive"]
    _add_tools(body, request)
    body.update(request.extra)
    return Call("/api/chat", body)


def _messages(message: HistoryMessage) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [
            {"role": "tool", "content": part.text, "tool_name": part.name}
            for part in message.parts
            if isinstance(part, ResultPart)
        ]
    item: dict[str, Any] = {"role": message.role, "content": ""}
    for part in message.parts:
        _add(item, part)
    return [item]


def _add(item: dict[str, Any], part: HistoryPart) -> None:
    match part:
        case TextPart(text):
            item["content"] += text
        case CallPart(name=name):
            call = {"function": {"name": name, "arguments": input_of(part)}}
            item.setdefault("tool_calls", []).append(call)
        case Attachment(media_type, data) if media_type.startswith("text/") and data is not None:
            between = "\n\n" if item["content"] else ""
            item["content"] += between + data.decode("utf-8", "replace")
        case Attachment(media_type):
            if not media_type.startswith("image/"):
                raise unsupported(part, API)
            check_bytes(part, API)
            item.setdefault("images", []).append(encoded(part))


def _add_tools(body: dict[str, Any], request: Request) -> None:
    if not request.tools or request.tool_choice == "none":
        return
    if request.tool_choice not in (None, "auto"):
        raise InvalidRequest(
            f"ollama.chat does not support tool_choice {request.tool_choice}",
            code="unsupported_option",
        )
    body["tools"] = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters,
            },
        }
        for tool in request.tools
    ]


DIALECT = Dialect(
    API, OllamaDecoder, build, embed=ollama_call, vectors=ollama_vectors, quirks=QUIRKS
)
