"""Pure: answers of the dialect `openai.responses`, in the foreground and in the background.

An answer is complete with `response.completed` or `response.incomplete`; `response.failed`,
`response.cancelled` and `error` events (nested or flat) are failures. Local servers send some
things only in `output_item.done`, others in deltas, so each item counts its output and takes the
rest from its end; an item whose end holds more text than its deltas has lost a piece. Items of
other kinds (the provider's or the client's tools, images, approvals) are kept unchanged; so is a
message with more than one text, and each one behind reasoning that goes back.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenwire.providers.base import FinishReason, KeptDelta, Unavailable
from tokenwire.providers.decoding import Decoder
from tokenwire.providers.fields import Unreadable, counter, loose, mapping, place, word, words
from tokenwire.providers.output_items import OutputItem, OutputItems

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
_CALL = frozenset({"type", "call_id", "name", "arguments"})
_MESSAGE = frozenset({"type", "id", "role", "status", "content"})
_TEXT = frozenset({"type", "text", "logprobs"})
"""Fields of a call, a message and its text that are read or carry no answer."""
ASKING = frozenset(
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
"""Kinds of items that wait for the client, unless the answer holds their output."""


class ResponsesDecoder(Decoder):
    """Events of a response, or a whole response in place of a stream."""

    dialect = API
    finish_reasons = FINISH

    def __init__(self, resumed_after: int | None = None) -> None:
        super().__init__()
        self.cursor = resumed_after
        self._after = resumed_after
        self._items = OutputItems()
        self._emitted_chars: dict[int, int] = {}
        """Characters of each output item so far, by its number."""
        self._begins: dict[tuple[int, int | str], int] = {}
        """The offset of each content part in the text so far."""
        self._annotated: set[int] = set()
        self._thought = resumed_after is not None
        """Reasoning goes back, or may have come before this stream: it refers to the items behind
        it.
        """
        self._open: dict[int, tuple[OutputItem, Mapping[str, Any]]] = {}
        """Items that have begun and not ended. A stream that resumes within a message would not
        know where its text began, so neither which words a citation means nor which it has read.
        """
        self._asking: set[Any] = set()

    def _object(self, name: bytes, item: dict[str, Any]) -> None:
        kind = words(item.get("type")) or name.decode("utf-8", "replace")
        number = counter(item.get("sequence_number"))
        if number is not None:
            if self._after is not None and number <= self._after and kind not in _FINAL:
                return  # a resumed stream may repeat what was read
            self.cursor = number
        if kind == "response.output_text.delta":
            number = self._number(item, "message")
            self._emit_piece(number, item["delta"], self._emit_text, item.get("content_index"))
        elif kind == "response.refusal.delta":
            number = self._number(item, "message")
            self._emit_piece(number, item["delta"], self._emit_refusal, item.get("content_index"))
        elif kind in _REASONING:
            number = self._number(item, "reasoning")
            self._emit_piece(number, item["delta"], self._emit_reasoning)
        elif kind == "response.function_call_arguments.delta":
            number = self._number(item, "function_call")
            self._tools.piece(number, None, None, words(item["delta"]))
        elif kind == "response.output_item.added":
            self._item_added(self._items.added(item), mapping(item["item"]))
        elif kind == "response.output_item.done":
            self._item_done(self._items.done(item), mapping(item["item"]))
        elif kind in _FINAL:
            self._final(mapping(item["response"]))
        elif kind in ("response.created", "response.in_progress", "response.queued"):
            self._begin(loose(item["response"]))
        elif kind == "response.function_call_arguments.done":
            self._tools.whole(self._items.of(item).number, words(item.get("arguments")))
        elif kind == "response.output_text.annotation.added":
            self._annotation(
                self._items.of(item).number,
                item.get("content_index"),
                loose(item.get("annotation")),
            )
        elif item.get("object") == "response":
            self._final(item)
        elif error := self._error_of(item):
            self._fail(error)

    def _begin(self, response: Mapping[str, Any]) -> None:
        self._start(response.get("id"), response.get("model"))
        if response.get("background"):
            self.run_id = word(response.get("id"))

    def _emit_piece(
        self, key: int, piece: Any, emit: Callable[[Any], None], part: Any = None
    ) -> None:
        if key not in self._emitted_chars:
            self._count_held()
        self._emitted_chars[key] = self._emitted_chars.get(key, 0) + len(words(piece))
        begins = (key, place(part) or 0)
        if begins not in self._begins:
            self._begins[begins] = self._text_so_far.chars
        emit(piece)

    def _annotation(self, key: int, part: Any, note: Mapping[str, Any]) -> None:
        if not note:
            return
        self._count_held()
        self._annotated.add(key)
        begins = self._begins.get((key, place(part) or 0))
        cites = None
        if begins is not None:
            cites = self._text_so_far.back(note.get("start_index"), note.get("end_index"), begins)
        url, title = note.get("url"), word(note.get("title")) or note.get("filename")
        self._source(note, url, title, cites=cites, keep=not word(url))

    def _number(self, event: Mapping[str, Any], kind: str) -> int:
        return self._items.growing(event, kind).number

    def _item_added(self, begun: OutputItem, item: Mapping[str, Any]) -> None:
        if begun.has_ended:
            return
        if item.get("type") == "function_call":
            self._call(begun.number, item)
        self._count_held()
        self._open[begun.number] = begun, item
        self.midway = True

    def _call(self, key: int, item: Mapping[str, Any]) -> None:
        if not self._tools.known(key):
            self._tools.piece(key, item.get("call_id") or item.get("id"), item.get("name"), None)

    def _item_done(self, ending: OutputItem, item: Mapping[str, Any]) -> None:
        if ending.has_ended:
            return  # the final event repeats them all
        self._count_held()
        ending.has_ended, key = True, ending.number
        begun_here = self._open.pop(key, None) is not None or self._after is None
        self.midway = bool(self._open)
        kind = words(item.get("type"))
        if kind == "function_call":
            self._call(key, item)
            self._tools.whole(key, words(item.get("arguments")))
            extra = {name: field for name, field in item.items() if name not in _CALL}
            self._tools.piece(key, None, None, None, extra)
            self._tools.end(key)
        elif kind == "message":
            self._message_done(key, item, begun_here=begun_here)
        elif kind == "reasoning":
            self._reasoning_done(key, item, begun_here=begun_here)
        else:
            self._other_done(kind, item)

    def _message_done(self, key: int, item: Mapping[str, Any], *, begun_here: bool) -> None:
        content = self._parts(item.get("content"))
        texts = [(words(part.get("text")), words(part.get("refusal"))) for part in content]
        given = self._emitted_chars.get(key, 0)
        length = sum(len(text) + len(refusal) for text, refusal in texts)
        if not begun_here:
            pass  # the missing part was in the stream that this one resumes
        elif not given:
            for index, (text, refusal) in enumerate(texts):
                self._emit_piece(key, text, self._emit_text, index)
                self._emit_piece(key, refusal, self._emit_refusal, index)
        elif length > given:
            raise Unreadable("a piece of the text did not arrive")
        if key not in self._annotated:
            for index, part in enumerate(content):
                for note in self._parts(part.get("annotations"), loosely=True):
                    self._annotation(key, index, note)
        if self._thought or _needs_keeping(item, content):
            self._kept_kinds = self._kept_kinds or not all(text or no for text, no in texts)
            self._out.append(KeptDelta(API, "message", item))

    def _reasoning_done(self, key: int, item: Mapping[str, Any], *, begun_here: bool) -> None:
        if begun_here and not self._emitted_chars.get(key):
            for part in (*self._parts(item.get("summary")), *self._parts(item.get("content"))):
                self._emit_piece(key, part.get("text"), self._emit_reasoning)
        self._thought = self._thought or bool(item.get("encrypted_content"))
        self._end_thought(item if item.get("encrypted_content") else None)

    def _other_done(self, kind: str, item: Mapping[str, Any]) -> None:
        if kind == "image_generation_call":
            form = word(item.get("output_format")) or "png"
            self._file(kind, item, f"image/{form}", item.get("result"))
        else:
            self._keep(kind or "item", item)
        call = item.get("call_id") or item.get("id")
        if kind in ASKING and item.get("execution") != "server":
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
        """What the final event holds beyond the streamed output: some servers send things only
        there. A resumed stream lacks the beginning.
        """
        if self._after is None:
            for streamed, item in zip(self._items.matched(output), output, strict=True):
                self._item_done(streamed, item)
        for streamed, item in list(self._open.values()):
            if item.get("type") not in _KNOWN:
                self._item_done(streamed, item)

    def _calls_are_the_reason(self) -> None:
        super()._calls_are_the_reason()
        if self._asking and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def _proved(self) -> bool:
        return False  # only the final event proves it, and completes at once

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


def _needs_keeping(item: Mapping[str, Any], content: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a message holds more than one text, its name and its status."""
    fields = any(value for name, value in item.items() if name not in _MESSAGE)
    parts = any(value for part in content for name, value in part.items() if name not in _TEXT)
    return fields or parts or len(content) != 1 or content[0].get("type") != "output_text"
