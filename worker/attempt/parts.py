"""Pure: turns a provider's deltas into events that build an answer's parts.

Guarantees:
- The events fold (`protocol/fold.py`) to the contents of the deltas, in order.
- Each text is storable, no event is larger than allowed, and the answer stays within its limits. At
  a limit (`at_limit`) it takes nothing more.
- What a provider sent beside a part is kept with the part, verbatim except for the text that the
  part holds (`protocol/kept.py`). If it cannot be kept, the part is marked `dropped`, and nothing
  more is kept of this turn.

Why it works this way: the state is the fold of the events, so it cannot differ from what readers
will hold. Tool input leaves in pieces of some hundred characters: a log has room for a limited
number of events, and nobody reads JSON word by word.

Rejected: a state of its own beside the fold (the two would differ after the first reset).
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tokenwire.config.terms import AnswerTerms
from tokenwire.protocol import events, fold
from tokenwire.protocol.files import address_of, digest_of
from tokenwire.protocol.kept import SearchBudget, ended, fold_out, is_lost, turns
from tokenwire.protocol.text import Cleaner, input_object, storable
from tokenwire.protocol.values import present
from tokenwire.providers import base as deltas
from tokenwire.worker.attempt.addresses import address_fields
from tokenwire.worker.attempt.sizes import (
    PART_COST,
    byte_size,
    cut_to,
    is_longer,
    json_size,
    size_of,
    storable_fields,
    texts_of,
)
from tokenwire.worker.history import text_around

MAX_PARTS = 4096
"""The most parts of one answer."""
SPARE_PARTS = 1024
"""When only so many parts are left, reasoning stands inside the text: a model that switches
between text and reasoning at each token then uses up no more parts."""
PIECE_CHARS = events.MAX_EVENT_TEXT_BYTES // 4
"""A piece of so many characters fits one event: UTF-8 has at most four bytes per character."""
INPUT_CHARS = 512
"""Tool input waits until it has so many characters, the call ends, or another event comes."""


class KeptOfPart(NamedTuple):
    """The new kept value of a part (None: none). It is stored without an event for readers."""

    part: int
    value: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class FileOfPart:
    """The bytes of a file part, to be stored before its event is appended."""

    media_type: str
    data: bytes


class _NotKept(Exception):
    """A value cannot be kept. The message says why, and nothing of the value."""


DraftItem = events.AnyEvent | KeptOfPart
"""What a delta becomes: an event for the log, or a kept value for SQL alone."""


@dataclass(slots=True)
class _OpenCall:
    """A call whose input still comes. `size`: bytes of it so far."""

    part: int
    cleaner: Cleaner
    size: int = 0
    is_cut: bool = False


@dataclass(slots=True)
class _WaitingInput:
    """Input of one call that has not left yet. `size`: its characters."""

    part: int
    pieces: list[str]
    size: int = 0


class PartsTaken:
    """What an attempt has taken, as parts. `answer`: what is held already; it is changed.

    `turn_start`: the number of the first part of the present turn. `continues`: another request
    goes on with the text of an earlier one. Its reasoning must not split that text, perhaps in the
    middle of a word, so it stands inside.
    """

    def __init__(
        self,
        answer: fold.Answer,
        attempt: int,
        terms: AnswerTerms | None = None,
        *,
        turn_start: int = 0,
        continues: bool = False,
    ) -> None:
        self.answer = answer
        self._turn_start = turn_start
        self.files: dict[int, FileOfPart] = {}
        self.at_limit = False
        """Whether the answer has reached a limit, and takes nothing more."""
        self.not_kept: dict[int, str] = {}
        """Why a value was not kept, by number of its part: one of each turn that lost one."""
        self._attempt, self._continues = attempt, continues
        self._terms = terms or AnswerTerms()
        self._text, self._reasoning_cleaner = Cleaner(), Cleaner()
        self._calls: dict[int, _OpenCall] = {}
        self._input: _WaitingInput | None = None
        self._searches = SearchBudget()
        self._reasoning: int | None = None  # the part whose ReasoningEnd is still to come
        self._measure()

    @property
    def between_parts(self) -> bool:
        """Whether no character, reasoning or call is incomplete.

        A provider may end a reasoning behind later parts. Its kept value comes with the end.
        """
        half = self._text.holds or self._reasoning_cleaner.holds
        return not (half or self._calls or self._reasoning is not None)

    def take(self, delta: deltas.Delta) -> Iterator[DraftItem]:
        """The events of a delta. Each is applied to `answer` before the next one is returned."""
        if self.at_limit:
            return
        match delta:
            case deltas.TextDelta(text) | deltas.RefusalDelta(text):
                yield from self._take_text(self._text.push(text))
            case deltas.ReasoningDelta(text):
                yield from self._take_reasoning(self._reasoning_cleaner.push(text))
            case deltas.ReasoningEnd(kept):
                yield from self._end_reasoning(kept)
            case deltas.ToolCallStart() | deltas.ToolCallArguments() | deltas.ToolCallEnd():
                yield from self._take_call(delta)
            case deltas.SourceDelta():
                yield from self._take_source(delta)
            case deltas.FileDelta():
                yield from self._take_file(delta)
            case deltas.KeptDelta(dialect, kind):
                is_inside = self.answer.open_text is not None
                named = {"dialect": dialect, "kind": kind}
                number = yield from self._open("provider", named, is_inside)
                yield from self._keep(number, delta)
            case deltas.Restart():
                yield self.reset()
        if self.at_limit:
            yield from self._close_calls()

    def extend(self, text: str) -> events.Chunk | None:
        """The fast path for the next piece of the open text. None: use `take`."""
        answer = self.answer
        number, size = answer.open_text, len(text)
        if number is None or not 0 < size <= PIECE_CHARS or not self._text.passes(text):
            return None
        size = size if text.isascii() else byte_size(text)
        if size > self._room or self._input is not None:
            return None
        self._room -= size
        part = answer.parts[number]
        offset = part.start + part.units
        part.grow(text)  # what `apply` would do with this piece
        return events.Chunk(answer.id, self._attempt, offset, text, number)

    def flush(self) -> Iterator[DraftItem]:
        """The events at the provider's end. Incomplete calls are invalid."""
        yield from self._take_reasoning(self._reasoning_cleaner.flush())
        yield from self._take_text(self._text.flush())
        yield from self._close_calls()

    def step(self, message_ids: Sequence[str] = ()) -> Iterator[DraftItem]:
        """The events of a step: the model is asked again. Another turn begins behind it."""
        fields = {"message_ids": list(message_ids)} if message_ids else {}
        yield from self._open("step", fields, is_inside=False)
        self._turn_start = len(self.answer.parts)

    def prove(self) -> None:
        """Note that the turn is whole: none of its parts is withdrawn any more."""
        self._turn_start = len(self.answer.parts)
        self._keeps, self._continues = True, False

    def drop(self, number: int) -> events.AnyEvent:
        """Mark the kept value of this part as lost. Then none of its turn goes back."""
        self._keeps = False
        return self.set_fields(number, {"dropped": True})

    def end_turn(self) -> Iterator[DraftItem]:
        """Note that what follows is another turn, which keeps values whatever was lost."""
        parts, self._keeps = self.answer.parts, True
        for number in reversed(turns(parts)[-1]):
            part = parts[number]
            if part.kept is not None or is_lost(part):
                part.kept = ended(part)
                yield KeptOfPart(number, part.kept)
                return

    def reset(self) -> events.Reset:
        """Withdraw all parts of the present turn."""
        self._calls.clear()
        self._input = self._reasoning = None
        self._text, self._reasoning_cleaner = Cleaner(), Cleaner()
        start = self._turn_start
        self.files = {number: file for number, file in self.files.items() if number < start}
        self.not_kept = {number: why for number, why in self.not_kept.items() if number < start}
        before = fold.Answer(self.answer.id)
        for part in self.answer.parts[:start]:
            before.add(part)
        lengths = before.content_units, before.reasoning_units
        reset = events.Reset(self.answer.id, self._attempt, *lengths, start)
        self.answer.apply(reset)
        self._measure()
        return reset

    # --- text and reasoning ---

    def _take_text(self, text: str) -> Iterator[DraftItem]:
        if text:
            yield from self._release_input()
        for piece in self._fitting_pieces(text):
            number = self.answer.open_text
            if number is None:
                number = len(self.answer.parts)
                if not self._may_open():
                    return
            offset = self.answer.content_units
            yield self._applied(events.Chunk(self.answer.id, self._attempt, offset, piece, number))

    def _take_reasoning(self, text: str) -> Iterator[DraftItem]:
        if text:
            yield from self._release_input()
        for piece in self._fitting_pieces(text):
            if not self._reasoning_is_open:
                yield from self._open_reasoning()
            offset, number = self.answer.reasoning_units, self._reasoning
            if number is None:
                return
            yield self._applied(
                events.Reasoning(self.answer.id, self._attempt, offset, piece, number)
            )

    def _open_reasoning(self) -> Iterator[DraftItem]:
        """Open reasoning inside a text by a `part` event. Other reasoning opens with its text."""
        stays_inside = self._continues or len(self.answer.parts) >= MAX_PARTS - SPARE_PARTS
        if stays_inside and self.answer.open_text is not None:
            self._reasoning = yield from self._open("reasoning", {}, is_inside=True)
        else:
            self._reasoning = len(self.answer.parts) if self._may_open() else None

    def _end_reasoning(self, kept: deltas.Kept | None) -> Iterator[DraftItem]:
        number, self._reasoning = self._reasoning, None
        if number is None and kept is not None:
            is_inside = self._continues and self.answer.open_text is not None
            number = yield from self._open("reasoning", {}, is_inside)
        yield from self._keep(number, kept)

    @property
    def _reasoning_is_open(self) -> bool:
        """Whether an open reasoning part may still grow."""
        return self._reasoning is not None and self._reasoning == self.answer.open_reasoning

    def _fitting_pieces(self, text: str) -> Iterator[str]:
        """As much of the text as there is room for, in pieces that fit an event."""
        text = self._fitted(text)
        for start in range(0, len(text), PIECE_CHARS):
            yield text[start : start + PIECE_CHARS]

    def _fitted(self, text: str) -> str:
        size = byte_size(text)
        room = max(0, self._room)
        self._spend(size)
        return text if size <= room else cut_to(text, room)

    # --- calls ---

    def _take_call(
        self, delta: deltas.ToolCallStart | deltas.ToolCallArguments | deltas.ToolCallEnd
    ) -> Iterator[DraftItem]:
        match delta:
            case deltas.ToolCallStart(index, call_id, name):
                if index in self._calls:
                    yield from self._close(self._calls.pop(index))
                named = {"id": call_id, "name": name, "state": "streaming"}
                number = yield from self._open("tool_call", named, is_inside=False)
                if number is not None:
                    self._calls[index] = _OpenCall(number, Cleaner())
            case deltas.ToolCallArguments(index, text):
                call = self._calls[index]
                yield from self._take_input(call, call.cleaner.push(text))
            case deltas.ToolCallEnd(index, kept):
                call = self._calls.pop(index)
                yield from self._close(call, is_whole=True)
                yield from self._keep(call.part, kept)

    def _take_input(self, call: _OpenCall, text: str) -> Iterator[DraftItem]:
        """Add input. Input above the limit is cut, and so the call becomes invalid."""
        room = events.MAX_EVENT_TEXT_BYTES - call.size
        size = byte_size(text)
        call.is_cut = call.is_cut or size > room
        if size > room:
            text = cut_to(text, room)
        call.size += size
        if text := self._fitted(text):
            if self._input is None or self._input.part != call.part:
                yield from self._release_input()
                self._input = _WaitingInput(call.part, [])
            self._input.pieces.append(text)
            self._input.size += len(text)
            if self._input.size >= INPUT_CHARS:
                yield from self._release_input()

    def _release_input(self) -> Iterator[DraftItem]:
        """The events of the waiting input."""
        waiting, self._input = self._input, None
        if waiting is None:
            return
        text, number = "".join(waiting.pieces), waiting.part
        for start in range(0, len(text), PIECE_CHARS):
            offset, piece = self.answer.parts[number].units, text[start : start + PIECE_CHARS]
            yield self._applied(
                events.ToolInput(self.answer.id, self._attempt, offset, piece, number)
            )

    def _close(self, call: _OpenCall, *, is_whole: bool = False) -> Iterator[DraftItem]:
        """End a call: `proposed` if its input is a JSON object. No input counts as {}."""
        is_whole = is_whole and not call.is_cut
        if is_whole and not call.size:
            yield from self._take_input(call, "{}")
        yield from self._take_input(call, call.cleaner.flush())
        yield from self._release_input()
        is_usable = is_whole and not self.at_limit
        value = input_object(self.answer.parts[call.part].text) if is_usable else None
        state = "invalid" if value is None else "proposed"
        yield self.set_fields(call.part, {"state": state})

    def _close_calls(self) -> Iterator[DraftItem]:
        """End all open calls: nothing more comes of them."""
        while self._calls:
            yield from self._close(self._calls.pop(next(iter(self._calls))))

    # --- other parts ---

    def _take_source(self, delta: deltas.SourceDelta) -> Iterator[DraftItem]:
        """Add a source, unless it is known: some providers repeat all sources with each piece."""
        end = self.answer.content_units
        cites = delta.cites and [max(0, end - back) for back in delta.cites]
        fields = address_fields(delta.url) | present(
            title=delta.title,
            media_type=delta.media_type,
            cites=cites,
            quote=delta.quote,
        )
        cited = (delta.url, *(cites or ()))
        if delta.kept is None and (delta.url is None or cited in self._cited):
            return
        self._cited.add(cited)
        is_open = self.answer.open_text is not None or self.answer.open_reasoning is not None
        number = yield from self._open("source", fields, is_inside=is_open)
        yield from self._keep(number, delta.kept)

    def _take_file(self, delta: deltas.FileDelta) -> Iterator[DraftItem]:
        fields: dict[str, Any] = {"media_type": delta.media_type, **address_fields(delta.url)}
        if delta.data is not None:
            url = address_of(self.answer.id, digest_of(delta.data))
            fields |= {"url": url, "size": len(delta.data)}
        number = yield from self._open("file", fields, is_inside=False)
        if number is not None and delta.data is not None:
            self.files[number] = FileOfPart(delta.media_type, delta.data)
        yield from self._keep(number, delta.kept)

    def _open(
        self, kind: str, fields: Mapping[str, Any], is_inside: bool
    ) -> Generator[DraftItem, None, int | None]:
        """Open a part. Returns its number, or None if there is no room for it.

        `is_inside`: the part stands inside the open text, and does not end it.
        """
        yield from self._release_input()
        fields = storable_fields(fields)
        if not self._has_room(PART_COST + sum(byte_size(text) for text in texts_of(fields))):
            return None
        if is_inside:
            fields = {**fields, "at": self.answer.content_units}
        number = len(self.answer.parts)
        value = {"type": kind, **fields}
        yield self._applied(events.PartEvent(self.answer.id, self._attempt, number, value))
        return number

    def set_fields(self, number: int, fields: Mapping[str, Any]) -> events.AnyEvent:
        """Set fields of a part; null removes one."""
        value = {"type": self.answer.parts[number].type, **fields}
        return self._applied(events.PartEvent(self.answer.id, self._attempt, number, value))

    def _applied(self, event: events.AnyEvent) -> events.AnyEvent:
        self.answer.apply(event)
        return event

    # --- what is kept ---

    def _keep(self, number: int | None, kept: deltas.Kept | None) -> Iterator[DraftItem]:
        """Keep a value with its part. After one was dropped, its turn keeps no further one."""
        if number is None or kept is None or not self._keeps:
            return
        try:
            value = self._stored_value(number, kept)
        except _NotKept as error:
            self.not_kept[number] = str(error)
            yield from self._release_input()
            yield self.drop(number)
            return
        self.answer.parts[number].kept = value
        yield KeptOfPart(number, value)

    def _stored_value(self, number: int, kept: deltas.Kept) -> Mapping[str, Any]:
        """The value as it is stored. Raises _NotKept."""
        text = self._text_around(number)
        if is_longer(kept.value, self._kept_room + len(text)):
            raise _NotKept("too large")
        try:
            plain = fold_out(dict(kept.value), text, self._searches)
        except ValueError as error:
            raise _NotKept("nested too deeply, or no JSON") from error
        value = {"dialect": storable(kept.dialect), "kind": storable(kept.kind), "value": plain}
        self._kept_room -= json_size(value)
        if self._kept_room < 0:
            raise _NotKept("too large")
        return value

    def _text_around(self, number: int) -> str:
        file = self.files.get(number)
        return text_around(self.answer.parts, number, file.data if file else b"")

    # --- limits ---

    def _measure(self) -> None:
        """Compute how much the limits leave beside what the answer holds."""
        parts = self.answer.parts
        self._room = self._terms.max_answer_bytes - sum(size_of(part) for part in parts)
        self._kept_room = self._terms.max_kept_bytes
        self._kept_room -= sum(json_size(part.kept) for part in parts if part.kept)
        self._keeps = not any(is_lost(parts[number]) for number in turns(parts)[-1])
        self._cited = {
            (part.fields.get("url", part.fields.get("address")), *(part.fields.get("cites") or ()))
            for part in parts
            if part.type == "source"
        }

    def _has_room(self, size: int) -> bool:
        """Whether there is room for one more part of so many bytes."""
        if self._may_open():
            self._spend(size)
        return not self.at_limit

    def _may_open(self) -> bool:
        """Whether there is room for one more part."""
        room = len(self.answer.parts) < MAX_PARTS
        self.at_limit = self.at_limit or not room
        return room

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            self.at_limit = True
