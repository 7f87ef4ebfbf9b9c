"""Pure: the dialect `anthropic.messages` (POST /messages).

An answer is complete with `message_stop`, or with a `stop_reason` before the end of the body.
Errors come as `event: error` in a 200, often as its first event. Content and `stop_reason` may be
in `message_start` already; llama.cpp sometimes omits `message_start`. Only `tool_use` blocks are
our tool calls. Blocks of the provider's tools, of compaction and of any other kind are kept and
sent back unchanged at their place; thinking goes back with its signature, a text with its
citations. Quirks: `max_tokens` (default 8192; the API requires one), `thinking` (`budget`, or
`adaptive`: the model chooses).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenwire.protocol.text import utf16_length
from tokenwire.providers.base import FinishReason, Request, Unavailable
from tokenwire.providers.content import (
    add_parameters,
    alternating,
    document_words,
    encoded,
    extra_of,
    input_of,
    named,
    spoken,
    system_text,
    tool_choice,
    turns,
    unsupported,
)
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.dialect import Call, Dialect
from tokenwire.providers.fields import Accumulator, Unreadable, loose, mapping, place, word, words
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
from tokenwire.providers.schema_forms import closed_form
from tokenwire.providers.spec import ModelSpec, Preset
from tokenwire.providers.tool_calls import parsed_arguments

API = "anthropic.messages"
QUIRKS = frozenset({"max_tokens", "parameters", "thinking"})
_CONTAINER = "container"
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


_MESSAGE = frozenset({
    *("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details",
        "usage", "context_management"),
    *("diagnostics", "container", "input_tokens", "output_tokens", "error"),
})  # fmt: skip
"""Fields of a message that are read or carry no answer; all others are kept."""


_CALL = frozenset({"type", "id", "name", "input", "cache_control"})
"""Fields of a call that are read; others (`caller`, for example) go back with it."""


class AnthropicDecoder(Decoder):
    """Events of a message stream, or a whole message in place of a stream."""

    dialect = API
    finish_reasons = FINISH

    def __init__(self) -> None:
        super().__init__()
        self._message_id: str | None = None
        self._blocks: dict[Any, _ContentBlock] = {}

    def _object(self, name: bytes, item: dict[str, Any]) -> None:
        kind = words(item.get("type")) or name.decode("utf-8", "replace")
        if kind == "content_block_delta":
            self._delta(place(item.get("index")), mapping(item["delta"]))
        elif kind == "content_block_start":
            self._block(place(item.get("index")), mapping(item["content_block"]))
        elif kind == "content_block_stop":
            self._block_end(place(item.get("index")))
        elif kind == "message_start":
            self._message_start(mapping(item["message"]))
        elif kind == "message_delta":
            self._message_delta(item)
        elif kind == "message_stop":
            self._stopped()
        elif kind == "message":
            self._message_start(item)
            if self.finish_reason:
                self._complete()
        elif error := self._error_of(item):
            self._fail(error)
        elif kind != "ping":
            self._keep_rest(kind or "event", item, ("type", "index"))

    def _message_start(self, message: Mapping[str, Any]) -> None:
        id = message.get("id")  # noqa: A001 - the provider's word
        if self._started and id != self._message_id:
            self._fail(Unavailable("a second answer began inside the first", code="spliced"))
            return
        again, self._message_id = self._started, id
        self._start(id, message.get("model"))
        self._usage_of(message.get("usage"))
        if again:
            return
        for index, block in enumerate(self._parts(message.get("content"))):
            self._block(index, block)
            self._block_end(index)
        self._keep_rest("message", message, _MESSAGE)
        self._stop_reason(message)

    def _message_delta(self, item: dict[str, Any]) -> None:
        self._usage_of(item.get("usage"))
        delta = mapping(item.get("delta"))
        self._stop_reason(delta)

    def _stop_reason(self, holder: Mapping[str, Any]) -> None:
        if container := loose(holder.get("container")):
            self._keep(_CONTAINER, container)
        if reason := holder.get("stop_reason"):
            self._finish(reason)

    def _block(self, index: Any, value: Mapping[str, Any]) -> None:
        self._block_end(index)  # a block that was never closed
        self._count_held()
        block = self._blocks[index] = _ContentBlock(dict(value))
        if block.kind == "text":
            block.add_text(value.get("text"))
            self._emit_text(value.get("text"))
            self._keep_rest("text", value, ("type", "text", "citations"))
        elif block.kind == "thinking":
            self._emit_reasoning(value.get("thinking"))
            self._keep_rest("thinking", value, ("type", "thinking", "signature"))
        elif block.kind == "tool_use":
            extra = {name: field for name, field in value.items() if name not in _CALL}
            self._tools.piece(index, value.get("id"), value.get("name"), None, extra)
        for citation in self._parts(value.get("citations"), loosely=True):
            block.cite(citation)

    def _delta(self, index: Any, delta: Mapping[str, Any]) -> None:
        kind = words(delta.get("type"))
        block = self._blocks.get(index)
        if block is None:
            self._count_held()
            block = self._blocks[index] = _ContentBlock({"type": _BLOCK_OF.get(kind, "unknown")})
        if kind == "citations_delta":
            self._count_held()
            block.cite(loose(delta.get("citation")))
        elif block.kind not in _BLOCK_OF.values():
            self._count_held()
            block.grow(kind, delta)
        elif kind not in _BLOCK_OF:
            self._keep(kind, delta)
        elif _BLOCK_OF[kind] != block.kind:
            raise Unreadable(f"{kind} in a block of {block.kind}")
        else:
            self._piece(kind, index, block, delta)

    def _piece(
        self, kind: str, index: Any, block: "_ContentBlock", delta: Mapping[str, Any]
    ) -> None:
        if kind == "text_delta":
            block.add_text(words(delta["text"]))
            self._emit_text(delta["text"])
        elif kind == "input_json_delta":
            self._tools.piece(index, None, None, words(delta["partial_json"]))
        else:
            if kind == "thinking_delta":
                self._emit_reasoning(words(delta["thinking"]))
            block.grow(kind, delta)

    def _citations(self, block: "_ContentBlock") -> None:
        """Emit the citations of a block that has ended: only now the length of the supported text
        is known.
        """
        for citation in block.citations:
            title = word(citation.get("title")) or citation.get("document_title")
            self._source(
                citation,
                citation.get("url"),
                title,
                cites=(block.units, 0) if block.kind == "text" else None,
                quote=citation.get("cited_text"),
                keep=True,
            )

    def _stopped(self) -> None:
        if not (self._started or self.finish_reason or self.emitted or self._out or self._blocks):
            self._fail(Unavailable("the end of a message that never began", code="empty_stream"))
            return
        self._complete()

    def _block_end(self, index: Any) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        value = block.whole()
        self._citations(block)
        if block.kind == "tool_use":
            if value.get("input"):
                self._tools.whole(index, value["input"])
            self._tools.end(index)
        elif block.kind in ("thinking", "redacted_thinking"):
            signed = block.kind == "redacted_thinking" or value.get("signature")
            self._end_thought(value if signed else None)
        elif block.kind == "image":
            source = loose(value.get("source"))
            media_type = word(source.get("media_type")) or "image/png"
            self._file(block.kind, value, media_type, source.get("data"))
        elif block.kind != "text":
            self._keep(block.kind, value)

    def _seal(self) -> None:
        for block in self._blocks.values():  # of a truncated answer
            self._citations(block)
        super()._seal()

    def _complete(self) -> None:
        for index in list(self._blocks):
            self._block_end(index)
        super()._complete()

    def _usage_of(self, usage: Any) -> None:
        if not (usage := loose(usage)):
            return
        thought = loose(usage.get("output_tokens_details")).get("thinking_tokens")
        read, written = (
            usage.get("cache_read_input_tokens"),
            usage.get("cache_creation_input_tokens"),
        )
        self._count(usage.get("input_tokens"), usage.get("output_tokens"), read, thought, written)


_BLOCK_OF = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
    "input_json_delta": "tool_use",
}
"""The kind of a block whose start is missing."""


class _ContentBlock:
    """A content block while it streams: each delta goes where the whole block would have it."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.kind = words(value.get("type")) or "unknown"
        self._value = Accumulator(value)
        self._json: list[str] = []
        self.units = 0
        """UTF-16 units of its text so far."""
        self.citations: list[Mapping[str, Any]] = []

    def add_text(self, text: Any) -> None:
        """A piece of its text."""
        self.units += utf16_length(words(text))

    def cite(self, citation: Mapping[str, Any]) -> None:
        """Add a citation of its text."""
        if citation:
            self.citations.append(citation)

    def grow(self, kind: str, delta: Mapping[str, Any]) -> None:
        """Apply a delta: JSON text extends the input, other fields extend the block's own."""
        if kind == "input_json_delta":
            self._json.append(words(delta["partial_json"]))
            return
        self._value.add({name: piece for name, piece in delta.items() if name != "type"})

    def whole(self) -> dict[str, Any]:
        """The block as it would have come in one piece."""
        value: dict[str, Any] = self._value.whole()
        if self._json:
            value["input"] = parsed_arguments("".join(self._json))
        return value


# --- requests -------------------------------------------------------------------------------------


def build(request: Request, spec: ModelSpec, preset: Preset) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot express."""
    quirks = {**preset.quirks, **spec.options}
    messages = turns(request, API, spec.model, _whole)
    body: dict[str, Any] = {
        "model": spec.model,
        "max_tokens": quirks.get("max_tokens", 8192),
        "messages": alternating(_messages(messages), "content"),
        "stream": True,
    }
    if request.schema is not None and closed_form(request.schema) is None:
        messages.append(HistoryMessage("system", document_words(request.schema)))
    if system := system_text(messages):
        body["system"] = system
    for message in messages:
        for part in message.parts:
            if isinstance(part, KeptPart) and part.kind == _CONTAINER:
                body["container"] = part.value.get("id")
    _add_tools(body, request)
    _add_options(body, request, spec, preset)
    if request.continuation and request.continuation.rung == "prefix":
        # Trailing white space is refused; if the model repeats it, the seam drops it.
        body["messages"].append(
            {"role": "assistant", "content": request.continuation.text.rstrip()}
        )
    body.update(request.extra)
    return Call("/messages", body)


def _messages(messages: Sequence[HistoryMessage]) -> list[dict[str, Any]]:
    last = messages[-1] if messages else None
    sent = [
        _message(message, paused=message is last)
        for message in messages
        if message.role != "system"
    ]
    return [message for message in sent if message["content"]]


def _message(message: HistoryMessage, *, paused: bool = False) -> dict[str, Any]:
    """`paused`: the last message is the answer to resume; only there may a provider's tool lack its
    result.
    """
    content = [
        block
        for part in message.parts
        if paused or not _lacks_result(part, message)
        for block in _blocks(part, message.role)
    ]
    return {"role": "assistant" if message.role == "assistant" else "user", "content": content}


def _blocks(part: HistoryPart, role: str) -> list[dict[str, Any]]:
    """A part as its provider wrote it, else in our own form. The API refuses blank text."""
    match part:
        case TextPart(text, kept) if text.strip():
            citations = {"citations": [item.value for item in kept]} if kept else {}
            return [{"type": "text", "text": text, **citations}]
        case ReasoningPart(kept=Kept(value=value)) | Attachment(kept=Kept(value=value)):
            return [dict(value)]
        case KeptPart(kind=kind, value=value) if kind != _CONTAINER:
            return [dict(value)]
        case CallPart(id, name):
            call = {"type": "tool_use", "id": id, "name": name, "input": input_of(part)}
            return [{**call, **extra_of(part)}]
        case ResultPart():
            return [_result(part)]
        case Attachment():
            spoken_of = role == "assistant"
            return [{"type": "text", "text": spoken(part)} if spoken_of else _attachment(part)]
    return []


def _result(part: ResultPart) -> dict[str, Any]:
    result = {
        "type": "tool_result",
        "tool_use_id": part.call_id,
        "content": part.text or "(no output)",
    }
    return {**result, "is_error": True} if part.error else result


def _whole(kept: Kept) -> bool:
    return named(kept) or kept.kind == _CONTAINER


def _lacks_result(part: HistoryPart, message: HistoryMessage) -> bool:
    """A tool of the provider without a result."""
    if not isinstance(part, KeptPart) or not part.kind.endswith("_tool_use"):
        return False
    return not any(
        isinstance(other, KeptPart) and other.value.get("tool_use_id") == part.value.get("id")
        for other in message.parts
    )


def _attachment(part: Attachment) -> dict[str, Any]:
    if part.media_type.startswith("text/") and part.data is not None:
        return {"type": "text", "text": part.data.decode("utf-8", "replace")}
    kind = (
        "image"
        if part.media_type.startswith("image/")
        else "document"
        if part.media_type == "application/pdf"
        else None
    )
    if kind is None:
        raise unsupported(part, "anthropic.messages")
    if part.data is None:
        return {"type": kind, "source": {"type": "url", "url": part.url}}
    return {
        "type": kind,
        "source": {"type": "base64", "media_type": part.media_type, "data": encoded(part)},
    }


def _add_tools(body: dict[str, Any], request: Request) -> None:
    if not request.tools:
        return
    body["tools"] = [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": dict(tool.parameters) or {"type": "object"},
        }
        for tool in request.tools
    ]
    choice = tool_choice(request)
    if choice:
        kinds = {"auto": "auto", "none": "none", "required": "any"}
        body["tool_choice"] = (
            {"type": kinds[choice]} if choice in kinds else {"type": "tool", "name": choice}
        )


def _add_options(body: dict[str, Any], request: Request, spec: ModelSpec, preset: Preset) -> None:
    if request.schema is not None and (form := closed_form(request.schema)) is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": form}}
    special = add_parameters(
        body, request, API, (spec, preset), ("reasoning_effort", "parallel_tool_calls")
    )
    if "parallel_tool_calls" in special:  # the API knows it beside a choice alone
        choice = body.setdefault("tool_choice", {"type": "auto"})
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = not special["parallel_tool_calls"]
    prefilled = request.continuation is not None and request.continuation.rung == "prefix"
    effort = special.get("reasoning_effort")
    if effort and not prefilled:  # an answer that continues a text cannot think first
        _add_thinking(body, effort, {**preset.quirks, **spec.options})


def _add_thinking(body: dict[str, Any], effort: str, quirks: Mapping[str, Any]) -> None:
    if quirks.get("thinking", "budget") == "adaptive":
        body["thinking"] = {"type": "adaptive"}
        body.setdefault("output_config", {})["effort"] = "low" if effort == "minimal" else effort
        return
    budget = _THINKING_BUDGET[effort]
    body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    body["max_tokens"] = max(body["max_tokens"], budget + 1024)


DIALECT = Dialect(API, AnthropicDecoder, build, strips_prefix=True, quirks=QUIRKS)
