"""Pure: what one attempt took, and what the log has of it. Deltas go in, batches of events come
out.

    take(deltas) -> batch() -> (append) -> acknowledged(seq) -> ... -> ending(...)

At most one batch is out at a time. What arrives meanwhile leaves with the next one, adjoining
pieces joined: load merges tokens, no timer delays them. A checkpoint holds acknowledged text only.
`run` decides when to append, to checkpoint and to give up; this module never waits.

An answer that outgrows its limit is `full`: it is cut there and ends as `length`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tokenwire.protocol import events
from tokenwire.protocol.text import (
    Cleaner,
    cut,
    fits,
    pieces,
    storable,
    storable_json,
    utf16_length,
)
from tokenwire.providers import base as deltas
from tokenwire.providers.tool_calls import parsed_arguments
from tokenwire.worker.attempt.usage import Reported
from tokenwire.worker.resume.continuation import Attachment, Held, Run, stored_call
from tokenwire.worker.resume.kept import KeptItems

MAX_RUN_ID_CHARS = 255
"""As wide as its column. A longer name cannot be kept, and a part of it names nothing."""
MAX_ANSWER_BYTES = 4 * 1024 * 1024
"""Text, reasoning and arguments of tools, and what follows for each thing beside them."""
CALL_COST, SOURCE_COST, ITEM_COST = 256, 256, 16
"""Bytes that each of them counts, so that their number is limited, too."""
PIECE_CHARS = events.MAX_EVENT_TEXT_BYTES // 4
"""A piece of so many characters fits one event: UTF-8 needs at most four bytes for each."""


@dataclass(slots=True)
class _Waiting:
    """Text or reasoning that waits for its append."""

    reasoning: bool
    parts: list[str]
    size: int


@dataclass(slots=True)
class _InputSoFar:
    id: str
    name: str
    json: list[str]
    size: int = 0

    def add(self, piece: str) -> None:
        """A piece of the arguments. What no event can carry need not be held."""
        if self.size <= events.MAX_EVENT_TEXT_BYTES:
            self.json.append(piece)
        self.size += _bytes(piece)


class Draft:
    """What an attempt has. `held`: what readers hold already, which this attempt continues."""

    def __init__(
        self,
        message_id: str,
        attempt: int,
        held: Held,
        seams: Sequence[int] = (),
        attached: Attachment | None = None,
        kept: KeptItems | None = None,
        reported: Reported | None = None,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.message_id = message_id
        self.attempt = attempt
        self.seams = list(seams)
        self.finish: deltas.Finish | None = None
        self.reported = reported or Reported()
        """What this answer's requests have reported of their tokens."""
        self.seq = held.seq
        self.emitted = self.answered = False
        """Whether readers were given something; whether the provider has said anything at all."""
        self.added = 0
        """Characters that this attempt has added to what readers hold."""
        self.saves = 0
        """Checkpoints that were taken."""
        self._known_text, self._known_reasoning = (
            (attached.known_text, attached.known_reasoning) if attached else (0, 0)
        )
        self._taken_text, self._taken_reasoning = len(held.text), len(held.reasoning)
        self.full = False
        """The answer is as long as it may be."""
        self._max_bytes = max_bytes
        self._room = max_bytes - _size_of(held)
        self._run = attached.run if attached else None
        self._refused = False
        self._text = [held.text]
        self._reasoning = [held.reasoning]
        self._tool_calls = list(held.tool_calls)
        self._sources = list(held.sources)
        self._text_end = utf16_length(held.text)
        self._reasoning_end = utf16_length(held.reasoning)
        self._calls: dict[int, _InputSoFar] = {}
        self._cited: set[str] = set()
        self._kept = kept or KeptItems()
        self._text_cleaner, self._reasoning_cleaner = Cleaner(), Cleaner()
        self._pending: list[_Waiting | events.AnyEvent] = []
        self._reached: Run | None = None
        self._sent: Run | None = None
        self._pending_chars = 0
        self._out: list[events.AnyEvent] = []
        self._uncheckpointed = 0

    # --- deltas in ---

    def take(self, batch: Iterable[deltas.Delta]) -> None:
        """Accept what the provider sent."""
        self.answered = True
        for delta in batch:
            if self.full:
                return
            match delta:
                case deltas.TextDelta(text=text):
                    self._take_text(text)
                case deltas.ReasoningDelta(text=text):
                    self._take_reasoning(text)
                case deltas.RefusalDelta(text=text):
                    self._refused = True
                    self._take_text(text)
                case deltas.UsageDelta():
                    self.reported = self.reported.corrected(_usage_fields(delta))
                case deltas.Finish():
                    self.finish = delta
                case _:
                    self._take_rare(delta)

    def _take_text(self, text: str) -> None:
        clean = self._text_cleaner.push(text)
        if self._known_text:
            clean, self._known_text = (
                clean[self._known_text :],
                max(0, self._known_text - len(clean)),
            )
        self._push(clean, reasoning=False)

    def _take_reasoning(self, text: str) -> None:
        clean = self._reasoning_cleaner.push(text)
        if self._known_reasoning:
            clean, self._known_reasoning = (
                clean[self._known_reasoning :],
                max(0, self._known_reasoning - len(clean)),
            )
        self._push(clean, reasoning=True)

    def reached(self, run_id: str, cursor: int | None) -> None:
        """The provider's run can be attached to, after what was taken so far.

        Nobody can resume within a character or a tool call.
        """
        if (
            not fits(run_id, MAX_RUN_ID_CHARS)
            or self._text_cleaner.holds
            or self._reasoning_cleaner.holds
            or self._calls
        ):
            return
        self._reached = Run(
            run_id,
            cursor,
            self._taken_text - self._known_text,
            self._taken_reasoning - self._known_reasoning,
        )
        if self.idle:
            self._run = self._reached

    @property
    def run(self) -> Run | None:
        """The provider's run, at the last place that lies within the acknowledged text."""
        return self._run

    def forget_run(self) -> None:
        """It could not be attached to: that is not tried again."""
        self._run = self._reached = self._sent = None

    def _take_rare(self, delta: deltas.Delta) -> None:
        match delta:
            case deltas.ToolCallStart(index=index, id=call_id, name=name):
                self._calls[index] = _InputSoFar(storable(call_id), storable(name), [])
                self._spend(CALL_COST + _bytes(call_id) + _bytes(name))
            case deltas.ToolCallArguments(index=index, json=piece):
                self._calls[index].add(piece)
                self._spend(_bytes(piece))
            case deltas.ToolCallEnd(index=index):
                self._end_call(self._calls.pop(index))
            case (
                deltas.KeptDelta()
                | deltas.ReasoningEnd(deltas.Kept())
                | deltas.FileDelta(kept=deltas.Kept())
            ):
                self._keep(delta)
            case deltas.Restart():
                self.seams.clear()
                self._kept.clear()
                self.add(events.Reset(self.message_id, self.attempt, keep=0, keep_reasoning=0))
            case deltas.SourceDelta(url=str(url)) if url not in self._cited:
                self._cited.add(url)
                self._cite(delta, url)
            case deltas.SourceDelta(url=None, kept=deltas.Kept() as kept):
                self._keep(kept)

    def _keep(self, delta: deltas.Kept | deltas.ReasoningEnd | deltas.FileDelta) -> None:
        """Rows have no parts yet: what goes back with a part stands at a place in the text.

        A message of OpenAI's would repeat the text itself.
        """
        item = delta if isinstance(delta, deltas.Kept) else delta.kept
        if item is not None and item.kind != "message":
            self._kept.add(self._taken_text - self._known_text, item)
            self._spend(ITEM_COST)

    def _cite(self, source: deltas.SourceDelta, url: str) -> None:
        title, media_type = source.title, source.media_type
        texts = (storable(url), title and storable(title), media_type and storable(media_type))
        self.add(events.Source(self.message_id, self.attempt, *texts))
        self._spend(SOURCE_COST + sum(_bytes(text or "") for text in texts))

    def _spend(self, size: int) -> None:
        """So much more of the answer has come. Beyond the limit it ends, with its open calls."""
        self._room -= size
        if self._room < 0 and not self.full:
            self.full, self.finish = True, deltas.Finish("length")
            while self._calls:
                self._end_call(self._calls.pop(next(iter(self._calls))), whole=False)

    def _fitted(self, text: str) -> str:
        """The beginning of the text for which there is room."""
        room = max(0, self._room)
        self._spend(size := _bytes(text))
        return text if size <= room else text.encode()[:room].decode("utf-8", "ignore")

    def add(self, event: events.AnyEvent) -> None:
        """Queue an event of the worker's own (`start`, `reset`, a tool call) behind what waits."""
        self._pending.append(event)
        self._pending_chars += _weight(event)
        if isinstance(event, events.Reset):
            held = self.held()
            left = Held(cut(held.text, event.keep), cut(held.reasoning, event.keep_reasoning))
            self._taken_text, self._taken_reasoning = len(left.text), len(left.reasoning)
            self._room = self._max_bytes - _size_of(left)
            self.forget_run()  # its place was in the text that is withdrawn

    def _push(self, text: str, *, reasoning: bool) -> None:
        text = self._fitted(text)
        if reasoning:
            self._taken_reasoning += len(text)
        else:
            self._taken_text += len(text)
        last = self._pending[-1] if self._pending else None
        for start in range(0, len(text), PIECE_CHARS):
            piece = text[start : start + PIECE_CHARS]
            if (
                isinstance(last, _Waiting)
                and last.reasoning == reasoning
                and last.size + len(piece) <= PIECE_CHARS
            ):
                last.parts.append(piece)
                last.size += len(piece)
            else:
                last = _Waiting(reasoning, [piece], len(piece))
                self._pending.append(last)
        self._pending_chars += len(text)

    def _end_call(self, call: _InputSoFar, *, whole: bool = True) -> None:
        text = "".join(call.json)
        whole = whole and call.size <= events.MAX_EVENT_TEXT_BYTES  # else it is not even parsed
        arguments = _arguments(text) if whole else text
        if not whole or _bytes_of(arguments) > events.MAX_EVENT_TEXT_BYTES:
            arguments = next(pieces(storable(text), events.MAX_EVENT_TEXT_BYTES), "")
        status: events.ToolStatus = "error" if isinstance(arguments, str) else "pending"
        self.add(
            events.ToolCall(self.message_id, self.attempt, call.id, call.name, arguments, status)
        )

    def pause(self) -> bool:
        """Whether the provider paused its turn, and all of it can be sent back. Notes the pause."""
        if self.finish is None or self.finish.reason != "paused" or self._tool_calls:
            return False
        return self._kept.pause(self._taken_text)

    def next_request(self) -> None:
        """Another request goes on with the answer."""
        self.finish, self.answered = None, False
        self._cited.clear()
        self.reported = self.reported.next_request()

    def flush(self) -> None:
        """The provider is done: let go of a surrogate that waited for its other half."""
        self._push(self._reasoning_cleaner.flush(), reasoning=True)
        self._push(self._text_cleaner.flush(), reasoning=False)

    # --- batches out ---

    @property
    def pending_chars(self) -> int:
        """Characters taken and not yet acknowledged, those of calls and sources among them."""
        return self._pending_chars

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is out."""
        return not self._pending and not self._out

    def batch(self) -> list[events.AnyEvent]:
        """The next batch; the same one again until `acknowledged`."""
        if not self._out:
            text_end, reasoning_end = self._text_end, self._reasoning_end
            for item in self._pending:
                if not isinstance(item, _Waiting):
                    self._out.append(item)
                    if isinstance(item, events.Reset):
                        text_end, reasoning_end = item.keep, item.keep_reasoning
                    continue
                content = "".join(item.parts)
                if item.reasoning:
                    self._out.append(
                        events.Reasoning(self.message_id, self.attempt, reasoning_end, content)
                    )
                    reasoning_end += utf16_length(content)
                else:
                    self._out.append(events.Chunk(self.message_id, self.attempt, text_end, content))
                    text_end += utf16_length(content)
            self._pending = []
            self._sent = self._reached
        return self._out

    def acknowledged(self, last_seq: int) -> None:
        """The log holds the batch; its last event has this seq."""
        for event in self._out:
            self._apply(event)
        self._out = []
        self._run = (self._sent if self._pending else self._reached) or self._run
        self.seq = last_seq

    def _apply(self, event: events.AnyEvent) -> None:
        if isinstance(event, events.Chunk):
            self._text.append(event.content)
            self._text_end += utf16_length(event.content)
            self._count(event.content)
        elif isinstance(event, events.Reasoning):
            self._reasoning.append(event.content)
            self._reasoning_end += utf16_length(event.content)
            self._count(event.content)
        elif isinstance(event, events.ToolCall):
            self._tool_calls.append(stored_call(event))
            self._uncheckpointed += 1
            self._pending_chars -= _weight(event)
        elif isinstance(event, events.Source):
            self._sources.append(event)
            self._pending_chars -= _weight(event)
        elif isinstance(event, events.Reset):
            self._withdraw(event)

    def _withdraw(self, reset: events.Reset) -> None:
        """Only now: until the log holds the reset, readers hold the text."""
        held = self.held()
        self.added = 0
        self._text, self._reasoning = (
            [cut(held.text, reset.keep)],
            [cut(held.reasoning, reset.keep_reasoning)],
        )
        self._text_end, self._reasoning_end = reset.keep, reset.keep_reasoning
        self._tool_calls = [call for call in self._tool_calls if "result" in call]
        self._uncheckpointed += 1

    def _count(self, content: str) -> None:
        self.emitted = True
        self.added += len(content)
        self._pending_chars -= len(content)
        self._uncheckpointed += len(content)

    def abandon_waiting(self) -> None:
        """Append nothing more. What is out may be in the log: that must still be found out."""
        self._pending, self._reached = [], self._sent

    def abandon_unacknowledged(self) -> None:
        """Append nothing more, whatever is out: what waits was never seen by anyone."""
        self._pending, self._out, self._pending_chars = [], [], 0
        self._reached = self._sent = None

    def adopted(self, last_seq: int) -> None:
        """A new log was given what was acknowledged. The batch that is out follows, unchanged."""
        self.seq = last_seq

    # --- storage and end ---

    @property
    def uncheckpointed(self) -> int:
        """Characters acknowledged since the last checkpoint; at least 1 if that lacks an item."""
        return self._uncheckpointed or int(self._kept_is_due)

    @property
    def _kept_is_due(self) -> bool:
        """What is kept has changed, and no `reset` that it comes after has yet to reach readers."""
        return self._kept.changed and not any(
            isinstance(event, events.Reset) for event in (*self._pending, *self._out)
        )

    def held(self) -> Held:
        """Everything acknowledged so far: what a checkpoint or the final row holds."""
        self._text, self._reasoning = ["".join(self._text)], ["".join(self._reasoning)]
        return Held(
            self._text[0],
            self._reasoning[0],
            tuple(self._tool_calls),
            self.seq,
            tuple(self._sources),
        )

    def checkpoint(self) -> Held:
        """`held()`, and the count of unsaved characters starts again."""
        self._uncheckpointed = 0
        self.saves += 1
        return self.held()

    def checkpoint_kept(self) -> list[dict[str, Any]] | None:
        """What a checkpoint saves beside the text; None: the row has it already."""
        return self._kept.checkpointed() if self._kept_is_due else None

    def saved(self, kept: list[dict[str, Any]] | None) -> None:
        """A checkpoint that held this beside the text is in the database."""
        if kept is not None:
            self._kept.saved(kept)

    def not_saved(self) -> None:
        """The last checkpoint is due again."""
        self._uncheckpointed += 1

    def kept(self) -> list[dict[str, Any]] | None:
        """What the answer holds beside text and calls, as rows store it; None if it is too much."""
        return self._kept.stored()

    def finish_reason(self) -> events.FinishReason:
        """The provider's reason in the protocol's words."""
        reason = self.finish.reason if self.finish else "unknown"
        if self._refused and reason == "stop":
            return "refusal"
        return "unknown" if reason == "error" else reason


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _bytes_of(arguments: dict[str, Any] | str) -> int:
    return _bytes(arguments) if isinstance(arguments, str) else len(msgspec.json.encode(arguments))


def _size_of(held: Held) -> int:
    """What is held of an answer, as its limit counts it."""
    calls = sum(CALL_COST + _bytes_of(call.get("arguments", "")) for call in held.tool_calls)
    return _bytes(held.text) + _bytes(held.reasoning) + calls


def _weight(event: events.AnyEvent) -> int:
    """Characters of an event that is no text."""
    if isinstance(event, events.ToolCall):
        return CALL_COST + _bytes_of(event.arguments)
    return (
        SOURCE_COST + len(event.url) + len(event.title or "")
        if isinstance(event, events.Source)
        else 0
    )


def _arguments(text: str) -> dict[str, Any] | str:
    """Tool arguments as an object; if they are none, or not storable, as the model wrote them."""
    parsed = parsed_arguments(text)
    try:
        value = storable_json(parsed)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else storable(text)


def _usage_fields(usage: deltas.UsageDelta) -> dict[str, int]:
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    return {name: number for name in names if (number := getattr(usage, name)) is not None}
