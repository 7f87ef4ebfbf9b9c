"""Pure: the dialect `openai.chat` (POST /chat/completions) of OpenAI and many compatible APIs.

An answer is complete with a `finish_reason`, or with `[DONE]` after some output; llama-box sends no
`[DONE]`, Snowflake no reason, and vLLM a lone `[DONE]` when it failed before the first token. One
choice is requested; of several, the first is read and the others are kept. Usage comes in the last
chunk, in one after it, or in every one.
"""

import io
from collections.abc import Mapping
from typing import Any

from tokenwire.providers.base import FinishReason, TextDelta, Unavailable
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.fields import (
    Accumulator,
    Unreadable,
    data_url_file,
    loose,
    mapping,
    place,
    word,
    words,
)
from tokenwire.providers.passages import Passages

API = "openai.chat"
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


_IN_PIECES = frozenset({"reasoning.text", "reasoning.summary"})
"""Types of reasoning details that come in pieces."""
_DELTA = frozenset(
    {
        "content",
        "reasoning",
        "reasoning_content",
        "reasoning_details",
        "tool_calls",
        "refusal",
        "function_call",
        "annotations",
    }
)
"""Fields of a delta that are read."""
_BESIDE = frozenset({
    *("role", "name", "id", "index", "tool_call_id", "finish_reason", "stop_reason", "channel",
        "metadata", "provider_specific_fields"),
    *("p", "padding", "obfuscation", "logprobs", "token_ids", "prompt_token_ids", "audio_tokens",
        "parsed", "reasoning_signature"),
    *("content_filter_results", "content_filter_offsets"),
})  # fmt: skip
"""Fields of a delta that carry no answer; all others are kept."""
_CHOICE = frozenset({
    *("index", "delta", "message", "text", "finish_reason", "error", "logprobs",
        "native_finish_reason", "stop_reason", "matched_stop"),
    *("content_filter_results", "content_filter_offsets", "token_ids", "seed", "moderation_hit"),
})  # fmt: skip
_CHUNK = frozenset({
    *("id", "object", "created", "model", "choices", "usage", "x_groq", "citations", "error",
        "system_fingerprint", "service_tier"),
    *("provider", "obfuscation", "timings", "prompt_filter_results", "search_results",
        "prompt_token_ids", "metadata", "type", "code"),
    *("message", "detail", "status", "request_id", "sla_metrics", "nvext", "x_request_id"),
})  # fmt: skip
"""Fields of a choice, and of a chunk without choices, that are read or carry no answer."""


class ChatDecoder(Decoder):
    """Chunks of `chat.completion.chunk`, or a whole `chat.completion` in place of a stream."""

    dialect = API
    finish_reasons = FINISH

    def __init__(self) -> None:
        super().__init__()
        self._answered = False
        self._marked = False
        self._thoughts: list[str] = []
        self._details: list[Accumulator] = []
        self._detail: tuple[Any, Any] | None = None
        """The part of the reasoning that must go back; kind and number of the last detail."""
        self._index: Any = None
        self._message: Mapping[str, Any] | None = None
        """The message of an answer that came whole."""
        self._text = io.StringIO()
        """All text so far."""
        self._counted = Passages()
        """The text up to the last citation: counting each token would cost more."""

    # The events have no names here.
    def _object(self, name: bytes, item: dict[str, Any]) -> None:  # noqa: ARG002
        if not self._started and (item.get("id") or item.get("model")):
            self._start(item.get("id"), item.get("model"))
        for choice in self._parts(item.get("choices")):
            self._choice(choice)
        if (usage := item.get("usage")) is not None or "x_groq" in item:
            self._usage_of(usage or loose(item.get("x_groq")).get("usage"))
        if (urls := item.get("citations")) and isinstance(urls, list):
            self._cite_all(urls)
        if "choices" not in item:
            self._keep_rest(word(item.get("object")) or "chunk", item, _CHUNK)
        if ("error" in item or "choices" not in item) and (error := self._error_of(item)):
            self._fail(error)

    def _choice(self, choice: Mapping[str, Any]) -> None:
        index = choice.get("index") or 0
        if index != self._index:
            if self._index is not None:
                self._grow("choice", [choice])
                return
            self._index = index
        delta = choice.get("delta")
        before = len(self._out)
        if (message := choice.get("message")) and delta is None:
            delta = self._new_message(mapping(message))
        if delta:
            self._delta(mapping(delta))
        elif text := choice.get("text"):  # the older completions
            self._content(text)
        if message:
            self._compare(mapping(message), before)
        if not choice.keys() <= _CHOICE:
            self._keep_rest("choice", choice, _CHOICE)
        if reason := choice.get("finish_reason"):
            self._finish(reason)
        if (error := choice.get("error")) and (failure := self._error_of({"error": error})):
            self._fail(failure)

    def _new_message(self, message: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The additional text of a whole message: all of it, or none if it repeats the text so far.

        Perplexity repeats it. Raises Unreadable.
        """
        if self._answered:
            if self._message not in (None, message):
                raise Unreadable("a second message")
            return None
        self._message = message
        return message

    def _compare(self, message: Mapping[str, Any], before: int) -> None:
        """A message beside a delta repeats all text so far (Perplexity); otherwise a piece was
        lost.

        Then this delta's text is dropped, since it does not follow the readers' text. Raises
        Unreadable.
        """
        if type(content := message.get("content")) is not str or not content:
            return
        if content != self._text.getvalue():
            del self._out[before:]
            raise Unreadable("a message that is not what has been said")

    def _delta(self, delta: Mapping[str, Any]) -> None:
        if len(delta) == 1 and type(text := delta.get("content")) is str and text:
            self._answered = True  # nearly every chunk of nearly every answer
            if self._details:
                self._end_details()
            self._text.write(text)
            self._out.append(TextDelta(text))
            return
        self._thoughts_of(delta)
        if content := delta.get("content"):
            self._content(content)
        for number, call in enumerate(self._parts(delta.get("tool_calls"))):
            self._call(call, number if delta is self._message else None)
        if refusal := delta.get("refusal"):
            self._answered = True
            self._emit_refusal(refusal)
        if function := mapping(delta.get("function_call")):
            self._answered = True
            self._end_details(called=True)
            self._tools.piece(0, None, function.get("name"), function.get("arguments"))
        for note in self._parts(delta.get("annotations"), loosely=True):
            self._annotation(note)
        for name, value in delta.items():
            if name not in _DELTA and name not in _BESIDE and value:
                self._answered = True
                self._grow(name, value)  # audio, images, tools that the provider ran

    def _thoughts_of(self, delta: Mapping[str, Any]) -> None:
        if thought := words(delta.get("reasoning_content")):
            self._thoughts.append(thought)
        thought = thought or words(delta.get("reasoning"))
        details = delta.get("reasoning_details")
        if thought or details:
            self._answered = True
            self._emit_reasoning(thought)
        if details:
            for entry in self._parts(details):
                self._detail_of(entry)

    def _detail_of(self, entry: Mapping[str, Any]) -> None:
        """Texts come in pieces; other values come whole."""
        self._count_held()
        kind = (entry.get("type"), entry.get("index"))
        if kind == self._detail and kind[0] in _IN_PIECES:
            self._details[-1].add(entry)
        else:
            self._details.append(Accumulator(entry))
        self._detail = kind

    def _end_details(self, *, called: bool = False) -> None:
        """The reasoning is over. `called`: a call followed, so DeepSeek requires its text back."""
        value: dict[str, Any] = {}
        if self._details:
            value["reasoning_details"] = [detail.whole() for detail in self._details]
        if called and self._thoughts:
            value["reasoning_content"] = "".join(self._thoughts)
            self._thoughts = []
        self._details, self._detail = [], None
        if value:
            self._end_thought(value)

    def _content(self, content: Any) -> None:
        self._answered = True
        self._end_details()
        if type(content) is str:
            self._text.write(content)
            self._emit_text(content)
            return
        for part in self._parts(content):  # Mistral: a list of text, thinking and references
            if part.get("type") == "thinking":
                thinking = part.get("thinking")
                self._keep_rest("thinking", part, ("type", "thinking", "closed"))
                for piece in (
                    self._parts(thinking) if isinstance(thinking, list) else [{"text": thinking}]
                ):
                    self._emit_reasoning(piece.get("text"))
                    self._keep_rest("thinking", piece, ("type", "text"))
            elif "text" in part:
                self._emit_text(part["text"])
                self._text.write(words(part["text"]))
            elif part:
                self._keep(word(part.get("type")) or "part", part)

    def _call(self, call: Mapping[str, Any], number: int | None) -> None:
        """`number`: its place in a whole message, where calls need no index."""
        self._answered = True
        self._end_details(called=True)
        if "custom" in call:  # its input is text, not JSON
            self._grow("custom_tool_call", call, place(call.get("index")))
            return
        function = mapping(call.get("function"))
        index = number if (given := call.get("index")) is None else given
        self._keep_rest("tool_call", call, ("index", "id", "type", "function", "extra_content"))
        self._keep_rest("function", function, ("name", "arguments", "index"))
        self._tools.piece(
            index, call.get("id"), function.get("name"), function.get("arguments"), _signature(call)
        )

    def _annotation(self, note: Mapping[str, Any]) -> None:
        citation = loose(note.get("url_citation"))
        cites = self._cited(citation.get("start_index"), citation.get("end_index"))
        if cites is None and word(citation.get("url")):
            self._cite(citation.get("url"), citation.get("title"))  # some servers repeat them
        elif note:
            url, title = word(citation.get("url")), citation.get("title")
            self._count_held()
            self._source(note, url, title, cites=cites, keep=url is None)

    def _cited(self, start: Any, end: Any) -> tuple[int, int] | None:
        if start is None:
            return None
        self._text.seek(self._counted.chars)
        self._counted.add(self._text.read())
        return self._counted.back(start, end)

    def _cite_all(self, entries: list[Any]) -> None:
        self._count_objects(len(entries))
        for entry in entries:
            url, title = (
                (entry, None)
                if isinstance(entry, str)
                else (loose(entry).get("url"), loose(entry).get("title"))
            )
            self._cite(url, title)

    def _usage_of(self, usage: Any) -> None:
        if not (usage := loose(usage)):
            return
        prompt, completion = (
            loose(usage.get("prompt_tokens_details")),
            loose(usage.get("completion_tokens_details")),
        )
        cached = prompt.get(
            "cached_tokens", usage.get("prompt_cache_hit_tokens", usage.get("cached_tokens"))
        )
        reasoning = completion.get("reasoning_tokens", usage.get("reasoning_tokens"))
        written = prompt.get("cache_write_tokens")
        self._count(
            usage.get("prompt_tokens"), usage.get("completion_tokens"), cached, reasoning, written
        )

    def _marker(self) -> None:
        self._marked = True
        if self._proved():
            self._complete()
        else:
            self._fail(
                Unavailable("the provider ended the stream without an answer", code="empty_stream")
            )

    def _complete(self) -> None:
        if self._outcome is None:
            self._end_details(called=bool(self._tools))
        super()._complete()

    def _keep_grown(self, kind: str, value: Any) -> None:
        images = value if kind == "images" and isinstance(value, list) else None
        if images is None:
            super()._keep_grown(kind, value)
            return
        for image in images:
            file = data_url_file(loose(loose(image).get("image_url")).get("url"))
            item = {kind: [image]}
            if file is None:
                self._keep(kind, item)
            else:
                self._file(kind, item, *file)

    def _proved(self) -> bool:
        return self.finish_reason is not None or (self._marked and self._answered)


def _signature(call: Mapping[str, Any]) -> Mapping[str, Any] | None:
    # Gemini's OpenAI endpoint requires its thought signature back.
    extra = loose(call.get("extra_content"))
    return {"extra_content": extra} if extra else None
