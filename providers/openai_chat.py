"""Pure: the dialect `openai.chat` (POST /chat/completions), as OpenAI and its many imitators speak it.

Whole is an answer with a `finish_reason`, or with `[DONE]` after some output; llama-box sends no `[DONE]`, Snowflake no reason, and vLLM
sends a lone `[DONE]` when it failed before the first token. Usage comes in the last chunk, in one after it, or in every one.
"""

from collections.abc import Mapping
from typing import Any

from providers.base import FinishReason, Message, ModelSpec, Part, Reasoning, Refusal, Request, Source, Text, ToolUse, Unavailable, Usage
from providers.content import check_parts, data_url, json_text, tool_choice, turns, unsupported
from providers.decoding import Decoder
from providers.dialect import Call, Dialect, Preset

FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",
    "refusal": "refusal",
    "error": "error",
    "network_error": "error",
    "insufficient_system_resource": "error",
}


class ChatDecoder(Decoder):
    """Chunks of `chat.completion.chunk`, and a whole `chat.completion` where a stream was asked for."""

    finish_reasons = FINISH

    def __init__(self) -> None:
        super().__init__()
        self._answered = False
        self._marked = False
        self._sources: set[str] = set()

    def _object(self, name: bytes, item: dict[str, Any]) -> None:  # noqa: ARG002 - the events have no names here
        if not self._started and (item.get("id") or item.get("model")):
            self._start(item.get("id"), item.get("model"))
        for choice in item.get("choices") or ():
            self._choice(choice)
        if (usage := item.get("usage")) is not None or "x_groq" in item:
            self._usage_of(usage or (item.get("x_groq") or {}).get("usage"))
        if (urls := item.get("citations")) and isinstance(urls, list):
            self._cite(urls)
        if ("error" in item or "choices" not in item) and (error := self._error_of(item)):
            self._fail(error)

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or choice.get("message")
        if delta:
            self._delta(delta)
        elif text := choice.get("text"):  # the older completions
            self._content(text)
        if reason := choice.get("finish_reason"):
            self._finish(reason)
        if (error := choice.get("error")) and (failure := self._error_of({"error": error})):
            self._fail(failure)

    def _delta(self, delta: dict[str, Any]) -> None:
        if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
            self._reason(reasoning, delta.get("reasoning_details"))
        elif details := delta.get("reasoning_details"):
            self._reason("", details)
        if content := delta.get("content"):
            self._content(content)
        if calls := delta.get("tool_calls"):
            for call in calls:
                self._call(call)
        if refusal := delta.get("refusal"):
            self._answered = True
            self._out.append(Refusal(refusal))
        if function := delta.get("function_call"):
            self._answered = True
            self._tools.piece(0, None, function.get("name"), function.get("arguments"))
        if annotations := delta.get("annotations"):
            self._cite([note.get("url_citation") for note in annotations])

    def _content(self, content: Any) -> None:
        self._answered = True
        if type(content) is str:
            self._out.append(Text(content))
            return
        for part in content:  # Mistral: a list of text, thinking and references
            if part.get("type") == "thinking":
                thinking = part.get("thinking")
                pieces = thinking if isinstance(thinking, list) else [{"text": thinking}]
                self._reason("".join(piece.get("text") or "" for piece in pieces), None)
            elif text := part.get("text"):
                self._out.append(Text(text))

    def _reason(self, text: Any, details: Any) -> None:
        self._answered = True
        echo = {"reasoning_details": details} if details else None
        if text or echo:
            self._out.append(Reasoning(text if isinstance(text, str) else "", echo))

    def _call(self, call: dict[str, Any]) -> None:
        self._answered = True
        function = call.get("function") or {}
        self._tools.piece(call.get("index"), call.get("id"), function.get("name"), function.get("arguments"), _signature(call))

    def _cite(self, entries: list[Any]) -> None:
        for entry in entries:
            url, title = (entry, None) if isinstance(entry, str) else ((entry or {}).get("url"), (entry or {}).get("title"))
            if url and url not in self._sources:
                self._sources.add(url)
                self._out.append(Source(url, title))

    def _usage_of(self, usage: dict[str, Any] | None) -> None:
        if not usage:
            return
        prompt = usage.get("prompt_tokens_details") or {}
        completion = usage.get("completion_tokens_details") or {}
        cached = prompt.get("cached_tokens", usage.get("prompt_cache_hit_tokens", usage.get("cached_tokens")))
        reasoning = completion.get("reasoning_tokens", usage.get("reasoning_tokens"))
        written = prompt.get("cache_write_tokens")
        self._count(Usage(usage.get("prompt_tokens"), usage.get("completion_tokens"), cached, reasoning, written))

    def _marker(self) -> None:
        self._marked = True
        if self._proved():
            self._complete()
        else:
            self._fail(Unavailable("the provider ended the stream without an answer", code="empty_stream"))

    def _proved(self) -> bool:
        return self.finish_reason is not None or (self._marked and self._answered)


def _signature(call: Mapping[str, Any]) -> Mapping[str, Any] | None:
    # Gemini through its OpenAI endpoint wants its thought signature back.
    extra = call.get("extra_content")
    return {"extra_content": extra} if extra else None


# --- requests -------------------------------------------------------------------------------------------------------


def build(request: Request, spec: ModelSpec, preset: Preset) -> Call:
    """The call for a request. Raises InvalidRequest for what this dialect cannot carry."""
    quirks = {**preset.quirks, **spec.options}
    body: dict[str, Any] = {"model": spec.model, "messages": [_message(m, quirks) for m in turns(request)], "stream": True}
    if quirks.get("stream_options", True):
        body["stream_options"] = {"include_usage": True}
    _add_tools(body, request)
    _add_options(body, request, quirks)
    _add_continuation(body, request, quirks)
    body.update(request.extra)
    base = quirks.get("prefix_base_url") if request.continuation and request.continuation.rung == "prefix" else None
    return Call(path=quirks.get("path", "/chat/completions"), body=body, base_url=base)


def _message(message: Message, quirks: Mapping[str, Any]) -> dict[str, Any]:
    if message.role == "tool":
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.text}
    item: dict[str, Any] = {"role": message.role, "content": _content(message)}
    if message.role == "system":
        item["role"] = quirks.get("system_role", "system")
    if message.tool_calls:
        item["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
        item["content"] = item["content"] or None
    if message.role == "assistant":
        for echo in message.reasoning_echo:
            item.update(echo)
    return item


def _content(message: Message) -> str | list[dict[str, Any]]:
    if not message.parts:
        return message.text
    text = [{"type": "text", "text": message.text}] if message.text else []
    return text + [_part(part) for part in message.parts]


def _part(part: Part) -> dict[str, Any]:
    kind = part.media_type.partition("/")[0]
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": part.url or data_url(part)}}
    check_parts(part, "openai.chat")
    if kind == "audio":
        form = {"audio/mpeg": "mp3", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-wav": "wav"}.get(part.media_type)
        if form is None:
            raise unsupported(part, "openai.chat")
        return {"type": "input_audio", "input_audio": {"data": data_url(part).partition(",")[2], "format": form}}
    if part.media_type == "application/pdf":
        return {"type": "file", "file": {"filename": part.name or "document.pdf", "file_data": data_url(part)}}
    if kind == "text":
        return {"type": "text", "text": (part.data or b"").decode("utf-8", "replace")}
    raise unsupported(part, "openai.chat")


def _tool_call(call: ToolUse) -> dict[str, Any]:
    function = {"name": call.name, "arguments": json_text(call.arguments)}
    return {"id": call.id, "type": "function", "function": function, **(call.echo or {})}


def _add_tools(body: dict[str, Any], request: Request) -> None:
    if not request.tools:
        return
    body["tools"] = [
        {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters}}
        for tool in request.tools
    ]
    choice = tool_choice(request)
    if choice:
        body["tool_choice"] = choice if choice in ("auto", "none", "required") else {"type": "function", "function": {"name": choice}}


def _add_options(body: dict[str, Any], request: Request, quirks: Mapping[str, Any]) -> None:
    if request.schema is not None:
        schema = {"name": "answer", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[quirks.get("max_tokens_field", "max_tokens")] = request.max_tokens
    if request.stop:
        body["stop"] = list(request.stop)
    if request.reasoning_effort:
        body["reasoning_effort"] = request.reasoning_effort


def _add_continuation(body: dict[str, Any], request: Request, quirks: Mapping[str, Any]) -> None:
    if request.continuation is None or request.continuation.rung != "prefix":
        return
    style = quirks.get("prefix", "trailing")
    last: dict[str, Any] = {"role": "assistant", "content": request.continuation.text}
    if style == "flag":
        last["prefix"] = True
    elif style == "continue_final_message":
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    body["messages"].append(last)


DIALECT = Dialect("openai.chat", ChatDecoder, build)
