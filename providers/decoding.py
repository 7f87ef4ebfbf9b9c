"""Pure: what the decoders of all dialects share: frames to JSON, tool calls, proof of completion, errors inside a success.

A decoder is fed bytes and gives deltas. It never raises: what went wrong is its `failure`, with the deltas that came before it given first.
It decides when an answer is whole (`done`), and that an end without proof is none. How the bytes travel is left to `stream.py`.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from providers.base import (
    Delta,
    Finish,
    FinishReason,
    Interrupted,
    ProviderError,
    Reasoning,
    Refusal,
    Source,
    Start,
    Text,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
    Unavailable,
    Usage,
)
from providers.classify import classify_stream_error, excerpt
from providers.framing import RAW, TAIL_BYTES, Frame, Framer, FrameTooLarge

_loads = msgspec.json.Decoder().decode
_OUTPUT = (Text, Reasoning, Refusal, ToolCallStart)


class Decoder:
    """Base of the dialects. They implement `_object` (one JSON object arrived) and may refine `_word`, `_ended` and `_raw`."""

    finish_reasons: ClassVar[Mapping[str, FinishReason]] = {}
    """The provider's words for the end, as ours. What is not listed is `unknown`."""
    error_is_an_end: ClassVar[bool] = True
    """A reason that means `error` still says that nothing more will come."""

    def __init__(self) -> None:
        self.failure: ProviderError | None = None
        self.done = False
        """The answer is proved whole and nothing more will be read."""
        self.run_id: str | None = None
        self.cursor: int | None = None
        self.run_over = False
        """The provider has said that the run has ended without a whole answer."""
        self.finish_raw: str | None = None
        self.finish_reason: FinishReason | None = None
        self.ended_in_error = False
        """The one fault is the reason that the provider gave for the end."""
        self.emitted = False
        """Something that a viewer may see has been given out."""
        self._framer = Framer()
        self._out: list[Delta] = []
        self._tools = _ToolCalls(lambda delta: self._out.append(delta))
        self._started = False
        self._closing = False
        self._usage: Usage | None = None
        self._sources: set[str] = set()
        self._unreadable = b""
        self.unread: list[Frame] = []
        """Frames that came in one read with the end, after it."""

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes. After `done` or a `failure` nothing more comes."""
        if self.done or self.failure:
            return []
        try:
            frames = self._framer.feed(data)
        except FrameTooLarge as error:
            self._fail(Unavailable(str(error), code="too_large"))
            return self._take()
        return self._decode(frames)

    def close(self) -> list[Delta]:
        """The body has ended: the last deltas, with a Finish if it ended well; else `failure` says how it did not."""
        self._closing = True  # what is broken now was cut off, which is no new fault
        try:
            deltas = self._decode(self._framer.close())
        except FrameTooLarge as error:
            self._fail(Unavailable(str(error), code="too_large"))
            return self._take()
        if not self.done and not self.failure:
            self._ended()
            deltas += self._take()
        return deltas

    def cut(self, error: ProviderError) -> list[Delta]:
        """The body was broken off by `error`: what can still be said. The error stands unless the answer is already proved whole."""
        if not self.done and not self.failure:
            if self._proved():
                self._complete()
            else:
                self._fail(error)
        return self._take()

    # --- for the dialects -------------------------------------------------------------------------------------------

    def _object(self, name: bytes, item: dict[str, Any]) -> None:
        """One JSON object arrived in an event called `name`."""
        raise NotImplementedError

    def _raw(self, item: dict[str, Any]) -> None:
        """A JSON object outside of the framing: an error, or a whole body where a stream was asked for."""
        if error := self._error_of(item):
            self._fail(error)
        else:
            self._object(b"", item)

    def _word(self, data: bytes) -> None:
        """Data that is not a JSON object (`[DONE]`)."""
        word = data.strip()
        if word == b"[DONE]":
            self._marker()
            return
        self._unreadable = (self._unreadable + data)[:TAIL_BYTES]
        if word.startswith(b"{") and not self._closing:
            # A piece of the answer is lost; to go on would pass off what is left as the whole.
            self._fail(Unavailable(f"an event is not readable: {excerpt(data)}", code="unreadable"))

    def _marker(self) -> None:
        """`[DONE]` has come."""

    def _proved(self) -> bool:
        """Whether what has come so far proves that the answer is whole."""
        return self.finish_reason is not None

    def _ended(self) -> None:
        if self._proved():
            self._complete()
        else:
            self._fail(self._truncated())

    def _error_of(self, item: Mapping[str, Any]) -> ProviderError | None:
        return classify_stream_error(item)

    # What leaves is checked here: a field may hold anything in a body that a stranger wrote.

    def _start(self, run: Any, model: Any) -> None:
        if not self._started:
            self._started = True
            self._out.append(Start(_string(run), _string(model)))

    def _say(self, text: Any) -> None:
        if type(text) is str and text:
            self._out.append(Text(text))

    def _think(self, text: Any, echo: Mapping[str, Any] | None = None) -> None:
        text = _string(text)
        if text or echo:
            self._out.append(Reasoning(text or "", echo))

    def _refuse(self, text: Any) -> None:
        if type(text) is str and text:
            self._out.append(Refusal(text))

    def _cite(self, url: Any, title: Any = None) -> None:
        url = _string(url)
        if url and url not in self._sources:
            self._sources.add(url)
            self._out.append(Source(url, _string(title)))

    def _finish(self, raw: Any) -> None:
        """The provider has named its reason; the Finish itself waits for `_complete`."""
        raw = str(raw)
        if self.finish_reason in (None, "stop", "unknown"):  # a later, plainer one does not replace `length`
            self.finish_raw = raw
            self.finish_reason = self.finish_reasons.get(raw, "unknown")

    def _calls_are_the_reason(self) -> None:
        """For providers that say `stop` when they mean: call these tools."""
        if self._tools and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def _count(self, *numbers: Any) -> None:
        """The fields of `Usage` in their order. Field by field, a number replaces what was said before."""
        usage = Usage(*(number if type(number) is int else None for number in numbers))
        self._usage = usage if self._usage is None else merge_usage(self._usage, usage)

    def _complete(self) -> None:
        """Proof is there: close the tool calls, give usage and Finish; nothing after it counts."""
        if self.finish_reason == "error":
            self.ended_in_error = self.error_is_an_end
            self._fail(Unavailable(f"the provider ended the answer with {self.finish_raw!r}", code=self.finish_raw))
            return
        self._tools.end_all()
        if self._usage is not None:
            self._out.append(self._usage)
        self._out.append(Finish(self.finish_reason or "unknown", self.finish_raw))
        self.done = True

    def _fail(self, error: ProviderError) -> None:
        if self.failure is not None or self.done:
            return
        if self._usage is not None:
            self._out.append(self._usage)
        visible = self.emitted or any(isinstance(delta, _OUTPUT) for delta in self._out)
        self.failure = as_interrupted(error) if visible else error

    def _truncated(self) -> ProviderError:
        """The body ended without proof: the error that hides in its tail, or plain truncation."""
        tail = self._framer.tail.strip() or self._unreadable.strip()
        if not tail:
            what = "before it was complete" if self._started or self.emitted else "without an answer"
            return Unavailable(f"the stream ended {what}", code="truncated")
        item = _json_object(self._unreadable)
        if item is not None and (error := classify_stream_error(item, certain=True)):
            return error
        return Unavailable(f"the stream ended with something unreadable: {excerpt(tail)}", code="truncated")

    # --- frames to objects ------------------------------------------------------------------------------------------

    def resume(self, frames: Sequence[Frame]) -> list[Delta]:
        """The deltas of frames that another decoder left unread."""
        return self._decode(frames)

    def _decode(self, frames: Sequence[Frame]) -> list[Delta]:
        for at, (name, data) in enumerate(frames):
            if self.done or self.failure is not None:
                self.unread += frames[at:]
                break
            try:
                item = _loads(data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._irregular(name, data)
            else:
                self._frame(name, item, data)
        return self._take()

    def _frame(self, name: bytes, item: Any, data: bytes) -> None:
        if type(item) is not dict:
            self._word(data)
            return
        try:
            if not name:
                self._object(name, item)
            elif name is RAW:
                self._raw(item)
                if not (self._started or self._out or self.failure):
                    self._unreadable = (self._unreadable + data)[:TAIL_BYTES]  # no part of an answer: a body of another kind
            elif name == b"error":
                self._fail(classify_stream_error(item, certain=True) or Unavailable(excerpt(data)))
            else:
                self._object(name, item)
        except (AttributeError, KeyError, TypeError, IndexError, ValueError):
            # A field of another shape than the format allows: kept for the report, like anything unreadable.
            self._unreadable = (self._unreadable + data)[:TAIL_BYTES]

    def _irregular(self, name: bytes, data: bytes) -> None:
        """Not JSON: several objects without blank lines between them, JSON with raw control characters or bad UTF-8, or a mere word."""
        lines = data.split(b"\n")
        if len(lines) > 1:
            for line in lines:
                self._decode_one(name, line)
            return
        self._decode_one(name, data)

    def _decode_one(self, name: bytes, data: bytes) -> None:
        item = _json_object(data)
        if item is not None:
            self._frame(name, item, data)
        elif name == b"error":
            self._fail(Unavailable(excerpt(data)))
        else:
            self._word(data)

    def _take(self) -> list[Delta]:
        out = self._out
        if not out:
            return []  # never the list itself: it will be added to
        self._out = []
        if not self.emitted:
            self.emitted = any(isinstance(delta, _OUTPUT) for delta in out)
        return out


class _ToolCalls:
    """Tool calls of one answer. A piece belongs to the call with its id; else with its index; else to the latest."""

    def __init__(self, give: Callable[[Delta], None]) -> None:
        self._give = give
        self._calls: list[_ToolCall] = []

    def __bool__(self) -> bool:
        return bool(self._calls)

    def piece(
        self,
        key: Any,
        id: str | None,  # noqa: A002 - the provider's word
        name: str | None,
        arguments: Any,
        echo: Mapping[str, Any] | None = None,
    ) -> None:
        """A piece of a call as it came: any of its fields may be missing or empty."""
        id = _string(id)  # noqa: A001
        call = self._find(key, id, name)
        if call is None:
            call = _ToolCall(len(self._calls), key, id)
            self._calls.append(call)
            self._give(ToolCallStart(call.index, id or f"call_{uuid.uuid4().hex[:24]}", _string(name) or "", made_up=not id))
        if echo:
            call.echo = {**(call.echo or {}), **echo}
        text = _arguments(arguments)
        if text and not call.ended:
            call.pieces += 1
            self._give(ToolCallArguments(call.index, text))

    def known(self, key: Any) -> bool:
        """Whether a call with this key has begun."""
        return any(call.key == key for call in self._calls)

    def whole(self, key: Any, arguments: str) -> None:
        """All arguments of a call at once, where no pieces of it had come."""
        call = self._find(key, None, None)
        if call and not call.pieces:
            self.piece(key, None, None, arguments)

    def end(self, key: Any) -> None:
        """No more arguments for this call."""
        call = self._find(key, None, None)
        if call:
            self._end(call)

    def end_all(self) -> None:
        for call in self._calls:
            self._end(call)

    def _end(self, call: "_ToolCall") -> None:
        if call.ended:
            return
        call.ended = True
        if not call.pieces:
            self._give(ToolCallArguments(call.index, "{}"))  # a call without arguments is a call with none
        self._give(ToolCallEnd(call.index, call.echo))

    def _find(self, key: Any, id: str | None, name: str | None) -> "_ToolCall | None":  # noqa: A002
        if id:
            for call in reversed(self._calls):
                if call.id == id:
                    return call
        if key is not None:
            for call in reversed(self._calls):
                if call.key == key and not (id and call.id and name):
                    return call
            return None
        return None if id or name or not self._calls else self._calls[-1]


class _ToolCall:
    __slots__ = ("echo", "ended", "id", "index", "key", "pieces")

    def __init__(self, index: int, key: Any, id: str | None) -> None:  # noqa: A002
        self.index = index
        self.key = key
        self.id = id or None
        self.echo: Mapping[str, Any] | None = None
        self.pieces = 0
        self.ended = False


def _string(value: Any) -> str | None:
    return value if type(value) is str and value else None


def merge_usage(old: Usage, new: Usage) -> Usage:
    """`new` over `old`, field by field where it is not None."""
    return Usage(*(getattr(old, name) if value is None else value for name in Usage.__slots__ for value in (getattr(new, name),)))


def as_interrupted(error: ProviderError) -> ProviderError:
    """What cuts an answer after something of it was seen is an interruption; other errors stay what they are."""
    if not isinstance(error, Unavailable):
        return error
    return Interrupted(error.message, code=error.code, status=error.status, retry_after_s=error.retry_after_s)


def _arguments(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _json_object(data: bytes) -> dict[str, Any] | None:
    # The standard library's decoder forgives what msgspec does not: raw control characters, lone surrogates, NaN.
    try:
        item = json.loads(data.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    return item if isinstance(item, dict) else None
