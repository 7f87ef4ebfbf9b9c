"""Pure: the dialect `anthropic.messages` (POST /messages).

Whole is an answer with `message_stop`, or with a `stop_reason` before the end of the body. Errors come as `event: error` in a 200, often
as its first event. Only `tool_use` blocks are tool calls for us: server tools run on the provider's side. Thinking blocks are echoed
back as they came. Quirks: `max_tokens` (default 8192; the API wants one), `thinking` (`budget`, or `adaptive`: the model chooses).
"""

import json
from collections.abc import Mapping
from typing import Any

from providers.base import (
    FinishReason,
    InvalidRequest,
    Message,
    ModelSpec,
    Part,
    Request,
    Unavailable,
)
from providers.content import alternating, encoded, merge_neighbours, system_text, tool_choice, turns, unsupported
from providers.decoding import Decoder
from providers.dialect import Call, Dialect, Preset

FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "refusal",
    "pause_turn": "paused",
    "compaction": "paused",
}
_THINKING_BUDGET = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24576}


class AnthropicDecoder(Decoder):
    """Events of a message stream, and a whole message where a stream was asked for."""

    finish_reasons = FINISH

    def __init__(self) -> None:
        super().__init__()
        self._message_id: str | None = None
        self._blocks: dict[Any, dict[str, Any]] = {}

    def _object(self, name: bytes, item: dict[str, Any]) -> None:
        kind = item.get("type") or name.decode("utf-8", "replace")
        if kind == "content_block_delta":
            self._delta(item.get("index"), item["delta"])
        elif kind == "content_block_start":
            self._block(item.get("index"), item["content_block"])
        elif kind == "content_block_stop":
            self._block_end(item.get("index"))
        elif kind == "message_start":
            self._message_start(item["message"])
        elif kind == "message_delta":
            self._message_delta(item)
        elif kind == "message_stop":
            self._stopped()
        elif kind == "message":
            self._whole(item)
        elif error := self._error_of(item):
            self._fail(error)

    def _message_start(self, message: dict[str, Any]) -> None:
        id = message.get("id")  # noqa: A001 - the provider's word
        if self._started and id != self._message_id:
            self._fail(Unavailable("a second answer began inside the first", code="spliced"))
            return
        self._message_id = id
        self._start(id, message.get("model"))
        self._usage_of(message.get("usage"))

    def _message_delta(self, item: dict[str, Any]) -> None:
        self._usage_of(item.get("usage"))
        if reason := (item.get("delta") or {}).get("stop_reason"):
            self._finish(reason)

    def _block(self, index: Any, block: dict[str, Any]) -> None:
        kind = block.get("type")
        self._blocks[index] = dict(block)
        if kind == "text":
            self._say(block.get("text"))
        elif kind == "thinking":
            self._think(block.get("thinking"))
        elif kind == "redacted_thinking":
            self._think("", dict(block))
        elif kind == "tool_use":
            self._tools.piece(index, block.get("id"), block.get("name"), None)
        for citation in block.get("citations") or ():
            self._cite(citation.get("url"), citation.get("title"))

    def _delta(self, index: Any, delta: dict[str, Any]) -> None:
        kind = delta.get("type")
        if kind == "text_delta":
            self._say(delta["text"])
        elif kind == "input_json_delta":
            if self._blocks.get(index, {}).get("type") == "tool_use":
                self._tools.piece(index, None, None, delta["partial_json"])
        elif kind == "thinking_delta":
            self._thought(index, delta["thinking"])
        elif kind == "signature_delta":
            block = self._blocks.setdefault(index, {"type": "thinking"})
            block["signature"] = block.get("signature", "") + delta["signature"]
        elif kind == "citations_delta":
            citation = delta.get("citation") or {}
            self._cite(citation.get("url"), citation.get("title"))

    def _stopped(self) -> None:
        if self._started:
            self._complete()
        else:
            self._fail(Unavailable("the end of a message that never began", code="empty_stream"))

    def _thought(self, index: Any, text: str) -> None:
        block = self._blocks.setdefault(index, {"type": "thinking"})
        block["thinking"] = block.get("thinking", "") + text
        self._think(text)

    def _block_end(self, index: Any) -> None:
        block = self._blocks.pop(index, {})
        if block.get("type") == "tool_use":
            if block.get("input"):
                self._tools.whole(index, json.dumps(block["input"], ensure_ascii=False))
            self._tools.end(index)
        elif block.get("type") == "thinking" and block.get("signature"):
            self._think("", block)

    def _whole(self, message: dict[str, Any]) -> None:
        self._message_start(message)
        for index, block in enumerate(message.get("content") or ()):
            self._block(index, block)
            self._block_end(index)
        if message.get("stop_reason"):
            self._finish(message["stop_reason"])
            self._complete()

    def _usage_of(self, usage: Mapping[str, Any] | None) -> None:
        if not usage:
            return
        thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens")
        read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
        self._count(usage.get("input_tokens"), usage.get("output_tokens"), read, thought, written)


# --- requests -------------------------------------------------------------------------------------------------------


def build(request: Request, spec: ModelSpec, preset: Preset) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot carry."""
    quirks = {**preset.quirks, **spec.options}
    messages = turns(request)
    body: dict[str, Any] = {
        "model": spec.model,
        "max_tokens": request.max_tokens or quirks.get("max_tokens", 8192),
        "messages": alternating([_message(message) for message in merge_neighbours(messages) if message.role != "system"], "content"),
        "stream": True,
    }
    if system := system_text(messages):
        body["system"] = system
    _add_tools(body, request)
    _add_options(body, request, quirks)
    if request.continuation and request.continuation.rung == "prefix":
        # Trailing white space is refused; what the model sends of it again is dropped at the seam.
        body["messages"].append({"role": "assistant", "content": request.continuation.text.rstrip()})
    body.update(request.extra)
    return Call("/messages", body)


def _message(message: Message) -> dict[str, Any]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": message.text or "(no output)"}
        return {"role": "user", "content": [result]}
    content = [dict(echo) for echo in message.reasoning_echo if echo.get("type") in ("thinking", "redacted_thinking")]
    content += [_part(part) for part in message.parts]
    if message.text.strip():
        content.append({"type": "text", "text": message.text})
    content += [{"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)} for call in message.tool_calls]
    return {"role": message.role, "content": content}


def _part(part: Part) -> dict[str, Any]:
    if part.media_type.startswith("text/") and part.data is not None:
        return {"type": "text", "text": part.data.decode("utf-8", "replace")}
    kind = "image" if part.media_type.startswith("image/") else "document" if part.media_type == "application/pdf" else None
    if kind is None:
        raise unsupported(part, "anthropic.messages")
    if part.data is None:
        return {"type": kind, "source": {"type": "url", "url": part.url}}
    return {"type": kind, "source": {"type": "base64", "media_type": part.media_type, "data": encoded(part)}}


def _add_tools(body: dict[str, Any], request: Request) -> None:
    if not request.tools:
        return
    body["tools"] = [
        {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters) or {"type": "object"}}
        for tool in request.tools
    ]
    choice = tool_choice(request)
    if choice:
        kinds = {"auto": "auto", "none": "none", "required": "any"}
        body["tool_choice"] = {"type": kinds[choice]} if choice in kinds else {"type": "tool", "name": choice}


def _add_options(body: dict[str, Any], request: Request, quirks: Mapping[str, Any]) -> None:
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": request.schema}}
    prefilled = request.continuation is not None and request.continuation.rung == "prefix"
    if request.reasoning_effort and not prefilled:  # an answer that goes on from text cannot think first
        _add_thinking(body, request.reasoning_effort, quirks)
    if request.temperature is not None:
        if "thinking" in body:
            raise InvalidRequest("anthropic.messages takes no temperature together with reasoning", code="unsupported_option")
        body["temperature"] = request.temperature


def _add_thinking(body: dict[str, Any], effort: str, quirks: Mapping[str, Any]) -> None:
    if quirks.get("thinking", "budget") == "adaptive":
        body["thinking"] = {"type": "adaptive"}
        body.setdefault("output_config", {})["effort"] = "low" if effort == "minimal" else effort
        return
    budget = _THINKING_BUDGET[effort]
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    body["max_tokens"] = max(body["max_tokens"], budget + 1024)


DIALECT = Dialect("anthropic.messages", AnthropicDecoder, build, strips_prefix=True)
