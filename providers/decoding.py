"""Pure: the base of all decoders: frames to JSON, proof of completion, errors inside a 200.

A decoder gets bytes and returns deltas. It never raises: an error becomes its `failure`, after the
deltas before it. It decides when an answer is complete (`done`); an end without proof is not. An
answer has one outcome, a Finish or a failure, and the first one counts. `stream.py` moves the
bytes.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from tokenwire.providers.amount import MAX_VALUES, TooMuch, is_too_much
from tokenwire.providers.base import (
    REASONING,
    AnswerTooLarge,
    Delta,
    FileDelta,
    Finish,
    FinishReason,
    Kept,
    KeptDelta,
    ProviderError,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    RunStarted,
    SourceDelta,
    TextDelta,
    ToolCallStart,
    Unavailable,
    UsageDelta,
    as_interrupted,
    merge_usage,
)
from tokenwire.providers.classify import NO_WORDS, classify_stream_error, excerpt, is_page
from tokenwire.providers.fields import (
    Accumulator,
    file_bytes,
    json_object,
    loose_list,
    mappings,
    word,
    words,
)
from tokenwire.providers.framing import (
    RAW,
    STRAY,
    TAIL_BYTES,
    Frame,
    Framer,
    FrameTooLarge,
    JsonSplitter,
)
from tokenwire.providers.passages import Passages
from tokenwire.providers.tool_calls import ToolCalls

_loads = msgspec.json.Decoder().decode
_OUTPUT = (TextDelta, ReasoningDelta, RefusalDelta, ToolCallStart)
_MOST_TOKENS = 2**53
MAX_HELD_BYTES = 16 * 1024 * 1024
"""Bytes of an answer's events that the decoder may hold until the end (parts without a delta, names
of calls).
"""
MAX_OBJECTS = 5_000
"""The most objects of one event: choices, content parts, calls and sources, nested or not."""
MAX_REASON_CHARS = 200
"""The longest finish reason of a provider."""
MAX_SOURCE_TEXT_CHARS = 8 * 1024
"""The longest address, title or quote of a source."""
CITATION = "citation"
"""The kind of citations."""
_JSON_MARKS = (b"{", b"}", b'"')
"""Without one of these characters a text cannot be a piece of an answer."""


class HeldTooMuch(TooMuch):
    """The decoder would hold more than MAX_HELD_BYTES."""


class Decoder:
    """Base of the dialects.

    They implement `_object` (one JSON object arrived) and may refine `_not_an_object`, `_ended` and
    `_raw`. Any exception in them means an unreadable piece, and ends the answer as a failure.
    """

    dialect: ClassVar[str] = ""
    """The name of the dialect, for kept values that only it understands."""
    finish_reasons: ClassVar[Mapping[str, FinishReason]] = {}
    """The provider's finish reasons, as ours. Others are `unknown`."""
    error_is_an_end: ClassVar[bool] = True
    """A reason that means `error` still proves the end."""

    def __init__(self) -> None:
        self._outcome: Finish | ProviderError | None = None
        self._sealed = False
        self.run_id: str | None = None
        self.cursor: int | None = None
        self.midway = False
        """Read up to within an item, where no other stream can resume."""
        self.run_over = False
        """The provider has reported the end of the run without a whole answer."""
        self.finish_raw: str | None = None
        self.finish_reason: FinishReason | None = None
        self.ended_in_error = False
        """The only fault is the provider's own finish reason."""
        self.emitted = False
        """A visible piece has been returned."""
        self._has_output = False
        """The same without reasoning."""
        self._framer = Framer()
        self._fed = 0
        """Bytes of the body so far: an error gives its offset, and never quotes the answer."""
        self._out: list[Delta] = []
        self._tools = ToolCalls(lambda delta: self._out.append(delta), self.dialect)
        self._started = False
        self._closing = False
        self._cut_off = False
        """The last line of the body is being read: if it is broken, the body was cut, which is no
        new fault.
        """
        self._usage: UsageDelta | None = None
        self._sources: set[str] = set()
        self._text_so_far = Passages()
        self._kept_kinds = False
        self._frame_bytes = self._held_bytes = 0
        self._frame_objects = 0
        self._growing: dict[tuple[str, Any], Accumulator] = {}
        self._rest: dict[str, list[Mapping[str, Any]]] = {}
        self._unreadable = b""
        self._stray = b""
        self._broken_end = b""
        """The last line of the body, if it ended within an object."""
        self.unread: list[Frame] = []
        """Frames after the end in the same read."""

    @property
    def done(self) -> bool:
        """The answer is complete, and nothing more will be read."""
        return isinstance(self._outcome, Finish)

    @property
    def failure(self) -> ProviderError | None:
        """Why there is no complete answer."""
        return self._outcome if isinstance(self._outcome, ProviderError) else None

    def feed(self, data: bytes) -> list[Delta]:
        """The deltas that `data` completes. After `done` or a `failure` there are no more."""
        if self._outcome is not None:
            return []
        self._fed += len(data)
        return self._safely(lambda: self._decode(self._framer.feed(data)))

    def close(self) -> list[Delta]:
        """The body has ended: the last deltas, with a Finish if it ended well; otherwise `failure`
        has the reason.
        """
        return self._safely(self._close)

    def _close(self) -> None:
        self._closing = True
        self._decode(self._framer.close())
        if self._outcome is None:
            self._ended()

    def cut(self, error: ProviderError) -> list[Delta]:
        """`error` broke the body off: the last deltas. The error counts unless the answer is
        already proved complete.
        """
        return self._safely(lambda: self._complete() if self._proved() else self._fail(error))

    def resume(self, frames: Sequence[Frame]) -> list[Delta]:
        """The deltas of frames that another decoder left unread."""
        return self._safely(lambda: self._decode(frames))

    def _safely(self, work: Callable[[], None]) -> list[Delta]:
        """The deltas that `work` adds. The only place where an exception during decoding becomes a
        failure.
        """
        try:
            work()
        except TooMuch as error:
            self._fail(AnswerTooLarge(str(error), code="too_large"))
        except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes make our code raise
            self._fail(
                Unavailable(
                    f"the answer cannot be read ({type(error).__name__})", code="unreadable"
                )
            )
        return self._take()

    # --- for the dialects -------------------------------------------------------------------------

    def _object(self, name: bytes, item: dict[str, Any]) -> None:
        """One JSON object arrived in an event called `name`. An exception here means a lost
        piece.
        """
        raise NotImplementedError

    def _raw(self, item: dict[str, Any]) -> None:
        """A JSON object outside of the framing: an error, or a whole body in place of a stream."""
        if error := self._error_of(item):
            self._fail(error)
        else:
            self._object(b"", item)

    def _not_an_object(self, data: bytes) -> None:
        """Data that is not a JSON object (`[DONE]`)."""
        if data.strip() == b"[DONE]":
            self._marker()
            return
        self._unreadable = (self._unreadable + data)[:TAIL_BYTES]
        if not any(mark in data for mark in _JSON_MARKS):
            return
        if self._cut_off and all(kind is not RAW for kind, _ in JsonSplitter().feed(data)):
            self._broken_end = data
        else:
            self._fail_unreadable(data)

    def _marker(self) -> None:
        """`[DONE]` has come."""

    def _proved(self) -> bool:
        """Whether the input so far proves that the answer is complete."""
        return self.finish_reason is not None

    def _ended(self) -> None:
        if self._proved():
            self._complete()
        else:
            self._fail(self._truncated())

    def _error_of(self, item: Mapping[str, Any]) -> ProviderError | None:
        return classify_stream_error(item)

    def _fail_unreadable(self, data: bytes) -> None:
        """A piece is unreadable: continuing would pass off the rest as the whole."""
        where = f"{len(data)} bytes among the first {self._fed} of the body"
        self._fail(Unavailable(f"an event is not readable: {where}", code="unreadable"))

    def _parts(self, value: Any, *, loosely: bool = False) -> Sequence[Mapping[str, Any]]:
        """The objects of a list (see `fields`). Raises FrameTooLarge above the limit of one event,
        since each costs work.
        """
        parts = loose_list(value) if loosely else mappings(value)
        self._count_objects(len(parts))
        return parts

    def _count_objects(self, number: int) -> None:
        self._frame_objects += number
        if self._frame_objects > MAX_OBJECTS:
            raise FrameTooLarge(f"an event has more than {MAX_OBJECTS} objects")

    # Deltas are checked here: a stranger's body may hold anything.

    def _start(self, run: Any, model: Any) -> None:
        if not self._started:
            self._started = True
            self._out.append(RunStarted(word(run), word(model)))

    def _emit_text(self, text: Any) -> None:
        if text := words(text):
            self._text_so_far.add(text)
            self._out.append(TextDelta(text))

    def _emit_reasoning(self, text: Any) -> None:
        if text := words(text):
            self._out.append(ReasoningDelta(text))

    def _emit_refusal(self, text: Any) -> None:
        if text := words(text):
            self._text_so_far.add(text)
            self._out.append(RefusalDelta(text))

    def _cite(self, url: Any, title: Any = None) -> None:
        """An address, each once."""
        url = word(url)
        if url and url not in self._sources:
            self._count_held()
            self._sources.add(url)
            self._source({"url": url, "title": title}, url, title)

    def _source(
        self,
        citation: Mapping[str, Any],
        url: Any = None,
        title: Any = None,
        *,
        cites: tuple[int, int] | None = None,
        quote: Any = None,
        keep: bool = False,
    ) -> None:
        """A citation in our form. Its original form is kept if `keep` says so (it must go back), or
        if ours is shorter: a long title or quote is cut, a long address is left out.
        """
        given = [word(field) for field in (url, title, quote)]
        url, title, quote = (text and text[:MAX_SOURCE_TEXT_CHARS] for text in given)
        is_shorter = [url, title, quote] != given
        url = url if url == given[0] else None  # a part of an address leads elsewhere
        if is_shorter and not (url or title or quote):
            self._keep(CITATION, citation)
            return
        kept = Kept(self.dialect, CITATION, citation) if keep or is_shorter else None
        self._out.append(SourceDelta(url, title, cites=cites, quote=quote, kept=kept))

    def _end_thought(self, value: Mapping[str, Any] | None) -> None:
        """The reasoning so far is complete; the value must go back with it."""
        kept = None if value is None else Kept(self.dialect, REASONING, value)
        self._out.append(ReasoningEnd(kept))

    def _file(self, kind: str, item: Mapping[str, Any], media_type: str, encoded: Any) -> None:
        """A base64 file from the model; an item with an unreadable file is only kept."""
        data = file_bytes(encoded)
        if data is None:
            self._keep(kind, item)
            return
        self._kept_kinds = True
        self._out.append(FileDelta(media_type, data, kept=Kept(self.dialect, kind, item)))

    def _keep(self, kind: str, value: Mapping[str, Any]) -> None:
        """Keep a part that has no delta of its own, verbatim."""
        self._kept_kinds = True
        self._out.append(KeptDelta(self.dialect, kind, value))

    def _keep_grown(self, kind: str, value: Any) -> None:
        """A value in pieces is complete."""
        self._keep(kind, value if isinstance(value, dict) else {kind: value})

    def _keep_rest(self, kind: str, value: Mapping[str, Any], known: Container[str]) -> None:
        """Unknown fields: they may belong to the answer."""
        if rest := {
            name: field
            for name, field in value.items()
            if name not in known and field not in (None, "", [], {})
        }:
            pieces = self._rest.setdefault(kind, [])
            if not pieces or pieces[-1] != rest:  # some servers repeat them with every piece
                self._count_held()
                pieces.append(rest)

    def _grow(self, kind: str, piece: Any, number: Any = None) -> None:
        """A piece of the numbered value of its kind without a delta; the whole is kept when the
        answer ends.
        """
        self._count_held()
        self._growing.setdefault((kind, number), Accumulator()).add(piece)

    def _count_held(self) -> None:
        """Count what an event leaves in memory until the end. Raises HeldTooMuch."""
        self._held_bytes += self._frame_bytes
        self._frame_bytes = 0  # each event counts once
        if self._held_bytes > MAX_HELD_BYTES:
            raise HeldTooMuch(
                f"more than {MAX_HELD_BYTES} bytes of the answer must wait for its end"
            )

    def _finish(self, raw: Any) -> None:
        """The provider has given its reason; the Finish waits for `_complete`."""
        raw = words(raw)[:MAX_REASON_CHARS]
        if self.finish_reason in (
            None,
            "stop",
            "unknown",
        ):  # a later, less specific one does not replace `length`
            self.finish_raw = raw
            self.finish_reason = self.finish_reasons.get(raw, "unknown")

    def _calls_are_the_reason(self) -> None:
        """For providers that say `stop` for tool calls."""
        if self._tools and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def _count(self, *numbers: Any) -> None:
        """The fields of `Usage` in order. Each number that is present replaces the earlier one."""
        usage = UsageDelta(
            *(
                number if type(number) is int and 0 <= number <= _MOST_TOKENS else None
                for number in numbers
            )
        )
        self._usage = usage if self._usage is None else merge_usage(self._usage, usage)

    def _complete(self) -> None:
        """The answer is proved complete; later input does not count."""
        if self._outcome is not None:
            return
        if self._stray:
            self._fail_unreadable(self._stray)
        elif self.finish_reason == "error":
            self.ended_in_error = self.error_is_an_end
            self._fail(
                Unavailable(
                    f"the provider ended the answer with {self.finish_raw!r}", code=self.finish_raw
                )
            )
        else:
            self._outcome = Finish(self.finish_reason or "unknown", self.finish_raw)

    def _fail(self, error: ProviderError) -> None:
        if self._outcome is None:
            self._outcome = error

    def _truncated(self) -> ProviderError:
        """The body ended without proof: the error in its tail, or a truncation."""
        tail = self._framer.tail.strip() or self._unreadable.strip()
        if not tail:
            what = (
                "before it was complete" if self._started or self.emitted else "without an answer"
            )
            return Unavailable(f"the stream ended {what}", code="truncated")
        item = json_object(self._unreadable)
        if item is not None and (error := classify_stream_error(item, certain=True)):
            return error
        begun = self._started or self.emitted
        what = (
            excerpt(tail)
            if is_page(tail) and not begun
            else f"{len(tail)} bytes or more among the first {self._fed} of the body"
        )
        return Unavailable(f"the stream ended with something unreadable: {what}", code="truncated")

    # --- the end ----------------------------------------------------------------------------------

    def _take(self) -> list[Delta]:
        if self._outcome is not None and not self._sealed:
            self._seal()
        out = self._out
        if not out:
            return []  # a new list: deltas will be added
        self._out = []
        if not self._has_output:
            self._note_output(out)
        return out

    def _note_output(self, out: Sequence[Delta]) -> None:
        kinds = {type(delta) for delta in out}
        self.emitted = self.emitted or not kinds.isdisjoint(_OUTPUT)
        self._has_output = not kinds.isdisjoint((TextDelta, RefusalDelta, ToolCallStart))

    def _seal(self) -> None:
        """The last deltas in any case. A Finish comes last, since only now all output is known."""
        self._sealed = True
        outcome = self._outcome
        if isinstance(outcome, Finish):
            self._tools.end_all()
            for (kind, _), growing in self._growing.items():
                self._keep_grown(kind, growing.whole())
            for kind, pieces in self._rest.items():
                self._keep(kind, {kind: pieces})
        if not self._has_output:
            self._note_output(self._out)
        if self._usage is not None:
            self._out.append(self._usage)
        if isinstance(outcome, Finish):
            self._out.append(self._finished(outcome))
        elif self.emitted and outcome is not None:
            self._outcome = as_interrupted(outcome)

    def _finished(self, finish: Finish) -> Finish:
        """An answer of only kept items has not stopped normally: our terms cannot express it."""
        if finish.reason == "stop" and self._kept_kinds and not self._has_output:
            self.finish_reason = "unknown"
            self._outcome = finish = Finish("unknown", finish.raw)
        return finish

    # --- frames to objects ------------------------------------------------------------------------

    def _decode(self, frames: Sequence[Frame]) -> None:
        for at, (name, data) in enumerate(frames):
            if self._outcome is not None:
                self.unread += frames[at:]
                break
            if name is STRAY:
                self._stray = self._stray or (
                    data[:TAIL_BYTES] if any(mark in data for mark in _JSON_MARKS) else b""
                )
                continue
            if is_too_much(data):
                raise FrameTooLarge(f"an event holds more than {MAX_VALUES} values")
            try:
                item = _loads(data)
            except RecursionError as error:
                raise FrameTooLarge("an event is nested too deeply") from error
            except (msgspec.DecodeError, UnicodeDecodeError):
                self._irregular(name, data, last=self._closing and at == len(frames) - 1)
            else:
                self._frame(name, item, data)

    def _frame(self, name: bytes, item: Any, data: bytes) -> None:
        self._frame_bytes, self._frame_objects = len(data), 0
        if self._stray and (self._started or self.emitted):
            self._fail_unreadable(self._stray)
        elif type(item) is not dict:
            self._not_an_object(data)
        elif not name:
            self._object(name, item)
        elif name is RAW:
            self._raw(item)
            if not (self._started or self._out or self._outcome):
                self._unreadable = (self._unreadable + data)[
                    :TAIL_BYTES
                ]  # no part of an answer: a body of another kind
        elif name == b"error":
            self._fail(classify_stream_error(item, certain=True) or Unavailable(NO_WORDS))
        else:
            self._object(name, item)

    def _irregular(self, name: bytes, data: bytes, *, last: bool) -> None:
        """Not JSON: objects without blank lines between them, raw control characters, bad UTF-8, or
        a bare word.
        """
        lines = data.split(b"\n")
        for at, line in enumerate(lines):
            self._cut_off = last and at == len(lines) - 1
            if self._outcome is not None:
                self.unread.append((name, line))
            else:
                self._decode_one(name, line)

    def _decode_one(self, name: bytes, data: bytes) -> None:
        item = json_object(data)
        if item is not None:
            self._frame(name, item, data)
        elif name == b"error":
            self._fail(
                Unavailable(
                    f"an error that is not readable: {len(data)} bytes"
                    if data.strip()
                    else NO_WORDS
                )
            )
        else:
            self._not_an_object(data)
