"""Pure: the fold. It applies the events of a log to one answer. Every reader of a log uses it.

Guarantees:
- Text, reasoning and inputs of tools are neither lost nor doubled. An event that comes again
  changes nothing. An event behind a gap raises `Hole`.
- Checks come first: an exception leaves the answer as it was, and no copy is made for that.
- An answer that has ended never changes. Unknown event types change nothing.

Why it works this way: offsets and numbers of parts say exactly where each event belongs. A reader
may hold more than the log has sent it (rows are ahead of a log that forked), so "I hold this
already" is checked before "may this part grow?". The order of the checks belongs to the protocol.

Rejected: replacing what an overlap holds (a shorter piece would shorten the text); opening parts by
any event type (old clients would meet holes behind types that they do not know); a checksum of the
layout's JSON (each client author would need canonical JSON).

Offsets and lengths count UTF-16 units. The fold ignores `seq`: its caller keeps events in order.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from tokenwire.protocol import events
from tokenwire.protocol.slices import Slices
from tokenwire.protocol.states import ENDED, closed_state
from tokenwire.protocol.text import checksum, cut, utf16_length

NOTHING: Final = range(0)
"""The numbers of the parts that an event touches if it changes no part."""
_ENDED: Final = frozenset(ENDED)
_STREAMED: Final = frozenset({"text", "reasoning", "tool_call"})
_PIECES: Final[Mapping[type, str]] = {
    events.Chunk: "text",
    events.Reasoning: "reasoning",
    events.ToolInput: "tool_call",
}
_NOTHING_ADDED: Final = (NOTHING, "")


class Hole(ValueError):
    """Something that belongs before this event is missing."""


class Unproven(ValueError):
    """The lengths or checksums of a terminal event do not match the answer."""


class Proof(NamedTuple):
    """Lengths (UTF-16 units, parts) and checksums (crc32) that a terminal event carries."""

    length: int
    crc32: int
    parts: int
    parts_crc32: int


class Part:
    """A piece of an answer. Its text is a slice of content or reasoning, or the input of a call.

    `fields`: the public fields, without type, text and length. A field is never null.
    `kept`: what only the provider that wrote the part understands. The layout does not contain it.
    `start`: where its text begins in content or reasoning. `units`: the length of its text. Both
    count UTF-16 units.
    """

    __slots__ = ("_pieces", "fields", "kept", "start", "type", "units")
    _pieces: list[str]
    units: int

    def __init__(
        self, kind: str, fields: Mapping[str, Any], start: int = 0, text: str = ""
    ) -> None:
        self.type = kind
        self.fields: dict[str, Any] = {}
        self.kept: Mapping[str, Any] | None = None
        self.start = start
        self.set_text(text)
        self.merge(fields)

    @property
    def text(self) -> str:
        """The whole text. Its pieces are joined at the first access."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0]

    @property
    def streams_input(self) -> bool:
        """Whether the part is a tool call whose input is still growing."""
        return self.type == "tool_call" and self.fields.get("state") == "streaming"

    def view(self) -> dict[str, Any]:
        """The part as a layout holds it: the public fields, with the length of its text."""
        entry = {"type": self.type, **self.fields}
        if self.type in _STREAMED:
            entry["length"] = self.units
        if self.type == "tool_call":
            entry["input"] = self.text
        return entry

    def equals(self, other: "Part") -> bool:
        """Whether both parts have the same type, fields, text and kept value."""
        mine, others = (self.type, self.fields, self.kept), (other.type, other.fields, other.kept)
        return mine == others and self.text == other.text

    def copy(self) -> "Part":
        """An independent copy. Values of fields are shared: they are never changed in place."""
        other = Part(self.type, self.fields, start=self.start, text=self.text)
        other.kept = self.kept
        return other

    def merge(self, value: Mapping[str, Any]) -> None:
        """Set the named fields; null removes a field. `length` is ignored: the text decides."""
        streamed = self.type in _STREAMED
        for name, item in value.items():
            if name == "type" or (streamed and name == "length"):
                continue
            if name == "input" and self.type == "tool_call":
                self.set_text(item if isinstance(item, str) else "")
            elif item is None:
                self.fields.pop(name, None)
            else:
                self.fields[name] = item

    def grow(self, content: str) -> None:
        """Append to the text."""
        self._pieces.append(content)
        self.units += len(content) if content.isascii() else utf16_length(content)

    def set_text(self, text: str) -> None:
        """Replace the text."""
        self._pieces = [text]
        self.units = utf16_length(text)


class Answer:
    """One answer, as its events made it. `parts` are in order.

    `retry`: {code, delay_ms, try, max_tries} while the answer waits for its next attempt.
    """

    def __init__(self, message_id: str) -> None:
        self.id = message_id
        self.status = "queued"
        self.attempt = 0
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.error: Mapping[str, Any] | None = None
        self.usage: events.Usage | None = None
        self.by: str | None = None
        self.seams: list[int] = []
        self.retry: Mapping[str, Any] | None = None
        self.parts: list[Part] = []
        self._open: dict[str, int | None] = {"text": None, "reasoning": None}
        self._last = dict(self._open)  # the last of each type, whether it may grow or not

    @property
    def ended(self) -> bool:
        """Whether the answer is complete, failed or cancelled. It never changes again."""
        return self.status in _ENDED

    @property
    def content(self) -> str:
        """The texts of all text parts, joined."""
        return "".join([part.text for part in self.parts if part.type == "text"])

    @property
    def reasoning(self) -> str:
        """The texts of all reasoning parts, joined."""
        return "".join([part.text for part in self.parts if part.type == "reasoning"])

    @property
    def content_units(self) -> int:
        """The length of `content` in UTF-16 units, without joining it."""
        return self._end_of("text")

    @property
    def reasoning_units(self) -> int:
        """The length of `reasoning` in UTF-16 units, without joining it."""
        return self._end_of("reasoning")

    @property
    def units(self) -> int:
        """The length of all texts of all parts in UTF-16 units, tool input included."""
        return sum(part.units for part in self.parts)

    @property
    def open_text(self) -> int | None:
        """The number of the text part that may still grow: all parts behind it have `at`."""
        return self._open["text"]

    @property
    def open_reasoning(self) -> int | None:
        """The number of the reasoning part that may still grow."""
        return self._open["reasoning"]

    def layout(self) -> list[dict[str, Any]]:
        """The parts as JSON, with lengths in place of the texts of content and reasoning."""
        return [part.view() for part in self.parts]

    def proof(self) -> Proof:
        """Lengths and checksums for the terminal event. Reads all texts: meant for the end."""
        total = 0
        for part in self.parts:
            text = str(part.units) if part.type == "text" else ""
            if part.type in ("reasoning", "tool_call"):
                text = part.text
            total = zlib.crc32(f"{part.type}\0{text}\0".encode(), total)
        return Proof(self.content_units, checksum(self.content), len(self.parts), total)

    def copy(self) -> "Answer":
        """An independent copy."""
        other = Answer(self.id)
        other.__dict__.update(self.__dict__)
        other.seams, other.parts = list(self.seams), [part.copy() for part in self.parts]
        other._open, other._last = dict(self._open), dict(self._last)
        return other

    def apply(self, event: events.AnyEvent, *, believe: bool = False) -> range:
        """Apply the next event, and return the numbers of the parts that it touched.

        Raises Hole or Unproven, and leaves the answer as it was. With `believe`, an end is not
        checked: its row was read again and says the same.
        """
        if isinstance(event, events.Piece):
            return self._touched(event.part) if self._grow(event) else NOTHING
        act = self._ACTS.get(type(event))
        if act is not None:
            # All of these types name a message.
            if event.message_id != self.id or self.status in _ENDED:  # type: ignore[union-attr]
                return NOTHING
            return act(self, event)
        if isinstance(event, events.Terminal) and event.message_id == self.id and not self.ended:
            return self._end(event, believe)
        return NOTHING

    def apply_with_text(self, event: events.AnyEvent) -> tuple[range, str]:
        """Apply the next event like `apply`, and also return the text that it added, or ""."""
        if not isinstance(event, events.Piece):
            return self.apply(event), ""
        added = self._grow(event)
        return (self._touched(event.part), added) if added else _NOTHING_ADDED

    def add(self, part: Part) -> None:
        """Append a part. Its `start` is set from the parts before it."""
        if "at" not in part.fields:
            self._open["text"] = self._open["reasoning"] = None
        if part.type in self._open:
            part.start = self._end_of(part.type)
            self._open[part.type] = self._last[part.type] = len(self.parts)
        self.parts.append(part)

    def reset(self, keep_parts: int) -> None:
        """Keep the first `keep_parts` parts. Raises Hole if there are fewer."""
        if not 0 <= keep_parts <= len(self.parts):
            raise Hole(f"{len(self.parts)} parts held, {keep_parts} are to be kept")
        self.parts = self.parts[:keep_parts]
        self._open, self._last = _open_of(self.parts), _last_of(self.parts)

    def close_calls(self, status: str, reason: str | None) -> range:
        """Close the calls that have not ended, because the answer ends so (`states.closed_state`).

        `reason`: the finish reason. Returns the range of numbers that holds all closed calls.
        """
        closed = [
            (number, part, state)
            for number, part in enumerate(self.parts)
            if part.type == "tool_call" and (state := closed_state(part.fields, status, reason))
        ]
        for _, part, state in closed:
            part.merge({"state": state, "expires_at": None})
        return range(closed[0][0], closed[-1][0] + 1) if closed else NOTHING

    # --- what the events do ---

    def _start(self, event: events.Start) -> range:
        self.status, self.retry = "streaming", None
        self.attempt, self.model = event.attempt, event.model
        return NOTHING

    def _retry(self, event: events.Retry) -> range:
        self.status, self.attempt = "retrying", event.attempt
        self.retry = {
            "code": event.code,
            "delay_ms": event.delay_ms,
            "try": event.try_,
            "max_tries": event.max_tries,
        }
        return NOTHING

    def _wait(self, event: events.Wait) -> range:
        self.status, self.attempt, self.retry = "waiting", event.attempt, None
        return NOTHING

    def _grow(self, piece: events.Piece) -> str:
        """Apply a piece and return the text that it added. Most pieces take the fast path."""
        if piece.message_id != self.id or self.status in _ENDED:
            return ""
        kind, number, content = _PIECES[type(piece)], piece.part, piece.content
        if number == self._open.get(kind):
            part = self.parts[number]
            if content and piece.offset == part.start + part.units:
                part.grow(content)
                return content
        is_call = kind == "tool_call"
        added = self._grow_input(piece) if is_call else self._grow_text(piece, kind)
        self._end_waiting()
        return added

    def _grow_text(self, piece: events.Piece, kind: str) -> str:
        number = piece.part
        if number == len(self.parts):
            if rest := _beyond(self._end_of(kind), piece):
                self.add(Part(kind, {}, text=rest))
            return rest
        part = self._held(number, kind)
        if rest := _beyond(part.start + part.units, piece):
            if number != self._open[kind]:
                raise Hole(f"part {number} has ended")
            part.grow(rest)
        return rest

    def _grow_input(self, piece: events.Piece) -> str:
        part = self._held(piece.part, "tool_call")
        if rest := _beyond(part.units, piece):
            if not part.streams_input:
                raise Hole(f"the input of part {piece.part} is complete")
            part.grow(rest)
        return rest

    def _part(self, event: events.PartEvent) -> range:
        kind = event.value.get("type")
        if not isinstance(kind, str):
            raise Hole("a part without a type")
        if event.part == len(self.parts):
            self.add(Part(kind, event.value))
        else:
            self._held(event.part, kind).merge(event.value)
            if "at" in event.value:
                self._open = _open_of(self.parts)
        return self._touched(event.part)

    def _reset(self, event: events.Reset) -> range:
        held = len(self.parts)
        if not 0 <= event.keep_parts <= held:
            raise Hole(f"{held} parts held, {event.keep_parts} are to be kept")
        kept = self.parts[: event.keep_parts]
        shorter = [*_shortened(kept, "text", event.keep)]
        shorter += _shortened(kept, "reasoning", event.keep_reasoning)
        for number, text in shorter:
            kept[number].set_text(text)
        self.parts = kept
        self._open, self._last = _open_of(kept), _last_of(kept)
        self._end_waiting()
        return range(min([event.keep_parts, *(number for number, _ in shorter)]), held)

    def _end(self, event: events.Terminal, believe: bool) -> range:
        if not believe and not self._proven(event):
            raise Unproven(f"{self.content_units} units in {len(self.parts)} parts held")
        self.retry, self.usage = None, event.usage
        if isinstance(event, events.Complete):
            self.status, self.finish_reason = "complete", event.finish_reason
            self.seams = list(event.seams)
        elif isinstance(event, events.Error):
            self.status = "error"
            self.error = {
                "code": event.code,
                "error": event.error,
                "retryable": event.retryable,
            }
        else:
            self.status, self.by = "cancelled", event.by
        return self.close_calls(self.status, self.finish_reason)

    def _proven(self, event: events.Complete | events.Error | events.Cancelled) -> bool:
        proof = self.proof()
        if (event.length, event.crc32) != (proof.length, proof.crc32):
            return False
        return proof[2:] == (event.parts, event.parts_crc32)

    def _end_waiting(self) -> None:
        """Any event does that, even one that changes nothing else."""
        if self.status == "waiting":
            self.status = "streaming"

    def _held(self, number: int, kind: str) -> Part:
        if not 0 <= number < len(self.parts):
            raise Hole(f"{len(self.parts)} parts held, the event is about part {number}")
        part = self.parts[number]
        if part.type != kind:
            raise Hole(f"part {number} is no {kind}")
        return part

    def _end_of(self, kind: str) -> int:
        number = self._last[kind]
        return 0 if number is None else self.parts[number].start + self.parts[number].units

    def _touched(self, number: int) -> range:
        self.status, self.retry = "streaming", None
        return range(number, number + 1)

    _ACTS: ClassVar[Mapping[type, Callable[["Answer", Any], range]]] = {
        events.Start: _start,
        events.Retry: _retry,
        events.Wait: _wait,
        events.PartEvent: _part,
        events.Reset: _reset,
    }


def _beyond(held: int, piece: events.Piece) -> str:
    """The part of the piece behind the units that are held. Raises Hole if there is a gap."""
    content, known = piece.content, held - piece.offset
    if known == 0:
        return content
    if known < 0 or piece.offset < 0:
        raise Hole(f"{held} units held, the next piece is at {piece.offset}")
    if utf16_length(content) <= known:
        return ""
    return content[len(_cut(content, known)) :]


def _cut(text: str, units: int) -> str:
    try:
        return cut(text, units)
    except ValueError as error:
        raise Hole("an offset inside a character") from error


def _shortened(parts: Sequence[Part], kind: str, keep: int) -> Iterable[tuple[int, str]]:
    """The last part of this type and its new text, if `keep` cuts into it.

    Raises Hole if these parts and `keep` do not agree: text is missing, or `keep` cuts into more
    than a part that may grow. (A reset that comes again finds that part grown.)
    """
    surplus = sum(part.units for part in parts if part.type == kind) - keep
    if surplus == 0:
        return ()
    number = _open_of(parts)[kind]
    if surplus < 0 or number is None or surplus > parts[number].units:
        raise Hole(f"{keep} units of {kind} are to be kept, which are not those of the parts")
    part = parts[number]
    return ((number, _cut(part.text, part.units - surplus)),)


def _last_of(parts: Sequence[Part]) -> dict[str, int | None]:
    """The numbers of the last part of each type."""
    found: dict[str, int | None] = {"text": None, "reasoning": None}
    for number, part in enumerate(parts):
        if part.type in found:
            found[part.type] = number
    return found


def _open_of(parts: Sequence[Part]) -> dict[str, int | None]:
    """The numbers of the parts that may grow: the last of each type, if all behind have `at`."""
    found: dict[str, int | None] = {"text": None, "reasoning": None}
    for number in range(len(parts) - 1, -1, -1):
        part = parts[number]
        if part.type in found and found[part.type] is None:
            found[part.type] = number
        if "at" not in part.fields:
            break
    return found


# --- rows ---------------------------------------------------------------------------------------


def from_view(row: Mapping[str, Any]) -> Answer:
    """The answer of a row in its wire form. Text is never lost, even if the layout is damaged.

    A row without `parts` has reasoning, then text. Text that the lengths do not cover becomes one
    more part at the end. An entry that is no part becomes a part of type `unknown`, so that the
    numbers of the others never shift.
    """
    answer = Answer(row["id"])
    answer.status, answer.attempt = row.get("status") or "queued", row.get("attempt") or 0
    answer.model, answer.finish_reason = row.get("model"), row.get("finish_reason")
    answer.error, answer.by = row.get("error"), row.get("by")
    answer.usage, answer.seams = _usage(row.get("usage")), list(row.get("seams") or ())
    streams = {kind: Slices(row.get(name) or "") for kind, name in _COLUMNS.items()}
    layout = row.get("parts")
    for entry in layout if isinstance(layout, list) else ():
        answer.add(_part_of(entry, streams))
    for kind, stream in streams.items():
        if rest := stream.take():
            answer.add(Part(kind, {}, text=rest))
    return answer


_COLUMNS: Final = {"reasoning": "reasoning", "text": "content"}


def _part_of(entry: Any, streams: Mapping[str, Slices]) -> Part:
    kind = entry.get("type") if isinstance(entry, Mapping) else None
    if not isinstance(kind, str):
        return Part("unknown", {"dropped": True})
    if kind not in streams:
        return Part(kind, entry)
    length, stream = entry.get("length"), streams[kind]
    text = stream.take(stream.taken_units + length) if isinstance(length, int) else ""
    return Part(kind, entry, text=text)


def _usage(value: Any) -> events.Usage | None:
    try:
        return msgspec.convert(value, events.Usage | None)
    except msgspec.ValidationError:
        return None
