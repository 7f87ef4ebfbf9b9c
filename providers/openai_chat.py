"""Pure: the dialect `openai.chat` (POST /chat/completions), as OpenAI and its many imitators speak it.

Whole is an answer with a `finish_reason`, or with `[DONE]` after some output; llama-box sends no `[DONE]`, Snowflake no reason, and vLLM
sends a lone `[DONE]` when it failed before the first token. Usage comes in the last chunk, in one after it, or in every one.
"""

from collections.abc import Mapping
from typing import Any

from providers.base import FinishReason, Text, Unavailable
from providers.decoding import Decoder

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
        self._thoughts: list[str] = []

    def _object(self, name: bytes, item: dict[str, Any]) -> None:  # noqa: ARG002 - the events have no names here
        if not self._started and (item.get("id") or item.get("model")):
            self._start(item.get("id"), item.get("model"))
        for choice in item.get("choices") or ():
            self._choice(choice)
        if (usage := item.get("usage")) is not None or "x_groq" in item:
            self._usage_of(usage or (item.get("x_groq") or {}).get("usage"))
        if (urls := item.get("citations")) and isinstance(urls, list):
            self._cite_all(urls)
        if ("error" in item or "choices" not in item) and (error := self._error_of(item)):
            self._fail(error)

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if delta is None and not self._answered:  # Perplexity repeats the whole message beside the deltas
            delta = choice.get("message")
        if delta:
            self._delta(delta)
        elif text := choice.get("text"):  # the older completions
            self._content(text)
        if reason := choice.get("finish_reason"):
            self._finish(reason)
        if (error := choice.get("error")) and (failure := self._error_of({"error": error})):
            self._fail(failure)

    def _delta(self, delta: dict[str, Any]) -> None:
        if len(delta) == 1 and type(text := delta.get("content")) is str and text:
            self._answered = True  # nearly every chunk of nearly every answer
            self._out.append(Text(text))
            return
        if thought := delta.get("reasoning_content"):
            self._thoughts.append(str(thought))
            self._reason(thought, None)
        elif reasoning := delta.get("reasoning"):
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
            self._refuse(refusal)
        if function := delta.get("function_call"):
            self._answered = True
            self._tools.piece(0, None, function.get("name"), function.get("arguments"))
        if annotations := delta.get("annotations"):
            self._cite_all([note.get("url_citation") for note in annotations])

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
                self._say(text)

    def _reason(self, text: Any, details: Any) -> None:
        self._answered = True
        self._think(text, {"reasoning_details": details} if details else None)

    def _call(self, call: dict[str, Any]) -> None:
        self._answered = True
        function = call.get("function") or {}
        self._tools.piece(call.get("index"), call.get("id"), function.get("name"), function.get("arguments"), _signature(call))

    def _cite_all(self, entries: list[Any]) -> None:
        for entry in entries:
            url, title = (entry, None) if isinstance(entry, str) else ((entry or {}).get("url"), (entry or {}).get("title"))
            self._cite(url, title)

    def _usage_of(self, usage: dict[str, Any] | None) -> None:
        if not usage:
            return
        prompt = usage.get("prompt_tokens_details") or {}
        completion = usage.get("completion_tokens_details") or {}
        cached = prompt.get("cached_tokens", usage.get("prompt_cache_hit_tokens", usage.get("cached_tokens")))
        reasoning = completion.get("reasoning_tokens", usage.get("reasoning_tokens"))
        written = prompt.get("cache_write_tokens")
        self._count(usage.get("prompt_tokens"), usage.get("completion_tokens"), cached, reasoning, written)

    def _marker(self) -> None:
        self._marked = True
        if self._proved():
            self._complete()
        else:
            self._fail(Unavailable("the provider ended the stream without an answer", code="empty_stream"))

    def _complete(self) -> None:
        if self._thoughts and self._tools:  # DeepSeek wants the thoughts back that led to a call
            self._think("", {"reasoning_content": "".join(self._thoughts)})
        super()._complete()

    def _proved(self) -> bool:
        return self.finish_reason is not None or (self._marked and self._answered)


def _signature(call: Mapping[str, Any]) -> Mapping[str, Any] | None:
    # Gemini through its OpenAI endpoint wants its thought signature back.
    extra = call.get("extra_content")
    return {"extra_content": extra} if extra else None
