"""Pure: Cohere's own chat API, version 2 (POST /v2/chat), as an example of a dialect in one file.

Named events; `message-end` completes an answer. Its plan before tool calls counts as reasoning.
Messages and tools are like OpenAI's except for some names. `registry.register` adds such a dialect,
with a preset that names it.
"""

from collections.abc import Mapping
from typing import Any

from tokenwire.providers import openai_chat_request
from tokenwire.providers.base import FinishReason, InvalidRequest, Request
from tokenwire.providers.content import tool_choice
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.dialect import Call, Dialect
from tokenwire.providers.fields import loose, mapping, place, word, words
from tokenwire.providers.spec import ModelSpec, Preset

API = "cohere.chat"
FINISH: Mapping[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
    "ERROR": "error",
    "TIMEOUT": "error",
}
_READ: Mapping[str, tuple[str, ...]] = {
    "message-start": ("role", "tool_plan", "content", "tool_calls", "citations"),
    "content-start": ("role", "content"),
    "content-delta": ("role", "content"),
    "tool-plan-delta": ("role", "tool_plan"),
    "tool-call-start": ("role", "tool_calls"),
    "tool-call-delta": ("role", "tool_calls"),
    "citation-start": ("role", "citations"),
}
"""Fields of the message that each kind of event reads; all others are kept."""


class CohereDecoder(Decoder):
    """Events of a chat."""

    dialect = API
    finish_reasons = FINISH

    def _object(self, name: bytes, item: dict[str, Any]) -> None:
        kind = words(item.get("type")) or name.decode("utf-8", "replace")
        delta = mapping(item.get("delta"))
        message = mapping(delta.get("message"))
        self._keep_rest("message", message, _READ.get(kind, ("role",)))
        if kind == "message-start":
            self._start(item.get("id"), None)
            self._begin(message)
            self._keep_rest("delta", delta, ("message",))
            self._keep_rest(kind, item, ("id", "type", "delta"))
        elif kind in ("content-start", "content-delta"):
            self._content(mapping(message["content"]))
        elif kind == "tool-plan-delta":
            self._emit_reasoning(words(message["tool_plan"]))
        elif kind in ("tool-call-start", "tool-call-delta"):
            self._call(place(item.get("index")), mapping(message["tool_calls"]))
        elif kind == "citation-start":
            self._sources_of(loose(message.get("citations")))
        elif kind == "message-end":
            self._end(delta)
        elif error := self._error_of(item):
            self._fail(error)
        elif kind not in ("tool-call-end", "citation-end", "content-end", "debug"):
            self._keep_rest(kind or "event", item, ("type", "index"))

    def _begin(self, message: Mapping[str, Any]) -> None:
        """The initial content of the message, usually nothing."""
        self._emit_reasoning(message.get("tool_plan"))
        for part in self._parts(message.get("content") or None):
            self._content(part)
        for index, call in enumerate(self._parts(message.get("tool_calls") or None)):
            self._call(index, call)

    def _call(self, index: int | str | None, call: Mapping[str, Any]) -> None:
        function = mapping(call.get("function"))
        self._keep_rest("tool_call", call, ("id", "type", "function"))
        self._keep_rest("function", function, ("name", "arguments"))
        self._tools.piece(index, call.get("id"), function.get("name"), function.get("arguments"))

    def _content(self, content: Mapping[str, Any]) -> None:
        self._emit_text(content.get("text"))
        self._emit_reasoning(content.get("thinking"))
        if rest := {
            name: value
            for name, value in content.items()
            if name not in ("type", "text", "thinking")
        }:
            self._keep(
                word(content.get("type")) or "content", {"type": content.get("type"), **rest}
            )

    def _sources_of(self, citation: Mapping[str, Any]) -> None:
        cites = self._text_so_far.back(citation.get("start"), citation.get("end"))
        for source in self._parts(citation.get("sources"), loosely=True):
            document = loose(source.get("document"))
            url, title = word(document.get("url")), document.get("title")
            self._count_held()
            quote = citation.get("text")
            self._source(source, url, title, cites=cites, quote=quote, keep=url is None)

    def _end(self, delta: Mapping[str, Any]) -> None:
        usage = loose(delta.get("usage"))
        tokens = loose(usage.get("tokens")) or loose(usage.get("billed_units"))
        self._count(
            tokens.get("input_tokens"), tokens.get("output_tokens"), usage.get("cached_tokens")
        )
        if reason := delta.get("finish_reason"):
            self._finish(reason)
        self._complete()


def build(request: Request, spec: ModelSpec, preset: Preset) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot express."""
    if request.continuation and request.continuation.rung in ("prefix", "attach"):
        raise InvalidRequest(
            f"cohere.chat knows no continuation by {request.continuation.rung}",
            code="unsupported_continuation",
        )
    body = dict(openai_chat_request.build(request, spec, preset, API).body or {})
    body.pop("stream_options", None)
    body.pop("response_format", None)
    if body.pop("tool_choice", None):
        body["tool_choice"] = _choice(request)
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_object",
            **({"json_schema": request.schema} if request.schema else {}),
        }
    return Call("/v2/chat", {name: value for name, value in body.items() if value is not None})


def _choice(request: Request) -> str | None:
    choice = tool_choice(request)
    if choice in (None, "auto"):
        return None
    if choice in ("required", "none"):
        return choice.upper()
    raise InvalidRequest(
        f"cohere.chat does not support tool_choice {choice}", code="unsupported_option"
    )


DIALECT = Dialect(API, CohereDecoder, build, takes_prefix=False, quirks=openai_chat_request.QUIRKS)
