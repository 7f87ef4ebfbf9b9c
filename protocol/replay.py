"""Pure: turns an answer back into events. `catch_up` gives the events that readers lack.

Guarantees:
- Applied to `have`, the events give `want`: parts, texts, end, and whether it waits. There are no
  events exactly if both are equal. No event carries more than 64 KiB of text or of one value.
- Each part follows the sequence of the log: it opens, its text comes in order, its fields follow,
  the state of a call last. Parts open in their order. So an encoder cannot tell the events of a
  row from those of the log.
- As many parts stay as can: a `reset` removes parts from the first one that cannot become the
  wanted one.

Why it works this way: a row stores parts, but encoders understand events only. With one function
from row to events, "the row says the same as the log" is a property of this module. A text is
split where another part stands inside it (`at`), as in the log.

Rejected: a row as one event (it has megabytes, and each reader would need a second fold); a reset
of everything at the first difference (correct text would flicker, and some dialects cannot take
text back).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer, Part
from tokenwire.protocol.slices import Slices
from tokenwire.protocol.text import pieces, utf16_length

_IDENTITY: Final[Mapping[str, tuple[str, ...]]] = {
    "tool_call": ("at", "id", "name"),
    "source": ("at", "url", "address", "file_id"),
    "file": ("at", "url", "address"),
    "data": ("at", "name", "id"),
    "provider": ("at", "dialect", "kind"),
}
"""Fields that identify a part. Readers cannot change them once the part is shown."""


def catch_up(have: Answer | None, want: Answer, attempt: int) -> list[events.AnyEvent]:
    """The events that turn `have` into `want`. `have` is None if it is unknown what readers hold.

    Returns no events if `have` has ended: such an answer never changes.
    """
    needed: list[events.AnyEvent] = []
    if have is None:
        have = Answer(want.id)
        needed.append(events.Reset(want.id, attempt, 0, 0, 0))
    if have.ended:
        return needed
    keep = _agreeing(have, want)
    if keep < len(have.parts):
        have = have.copy()
        have.reset(keep)
        lengths = have.content_units, have.reasoning_units
        needed.append(events.Reset(want.id, attempt, *lengths, keep))
    needed += _Growth(have, want, attempt).emit()
    if want.ended:
        return [*needed, terminal_event(want, attempt)]
    return needed + _waiting(have, want, attempt, changed=bool(needed))


def _waiting(have: Answer, want: Answer, attempt: int, *, changed: bool) -> list[events.AnyEvent]:
    """The event after which `want` waits or does not, like its row. `changed`: others come first.

    Any event ends the waiting. Without another one it is a `reset` that keeps everything.
    """
    if want.status == "waiting":
        return [events.Wait(want.id, attempt)] if changed or have.status != "waiting" else []
    if have.status != "waiting" or changed:
        return []
    lengths = want.content_units, want.reasoning_units, len(want.parts)
    return [events.Reset(want.id, attempt, *lengths)]


def terminal_event(ended: Answer, attempt: int) -> events.Terminal:
    """The event that seals an answer. What its row does not say has a default."""
    who, proof = (ended.id, attempt), ended.proof()
    if ended.status == "complete":
        reason: Any = ended.finish_reason or "unknown"
        return events.Complete(*who, reason, ended.usage, *proof[:2], ended.seams, *proof[2:])
    if ended.status == "cancelled":
        return events.Cancelled(*who, ended.by or "unknown", ended.usage, *proof)
    error = {**events.INTERNAL_ERROR, **(ended.error or {})}
    names = error["code"], error["error"], error["retryable"]
    return events.Error(*who, *names, ended.usage, *proof)


def begins(have: Answer, want: Answer) -> bool:
    """Whether `have` can become `want` without taking anything back."""
    return _agreeing(have, want) == len(have.parts)


def _agreeing(have: Answer, want: Answer) -> int:
    """How many leading parts of `have` can stay."""
    growing: set[str] = set()
    for number, (held, wanted) in enumerate(zip(have.parts, want.parts, strict=False)):
        ends = "at" not in held.fields or held.type in growing
        if (growing and ends) or not _may_become(held, wanted):
            return number
        if held.units < wanted.units and held.type in ("text", "reasoning"):
            growing.add(held.type)
    return min(len(have.parts), len(want.parts))


def _may_become(held: Part, wanted: Part) -> bool:
    if held.type != wanted.type or _identity(held) != _identity(wanted):
        return False
    if held.type == "tool_call" and held.fields.get("state") != "streaming":
        return held.text == wanted.text
    return wanted.text.startswith(held.text)


def _identity(part: Part) -> str:
    names = _IDENTITY.get(part.type, ("at",))
    return _json([part.fields.get(name) for name in names])


class _Growth:
    """The events from an answer to a longer one that begins with it.

    A text is emitted up to each part that stands inside it, then the part, then the rest.
    """

    def __init__(self, have: Answer, want: Answer, attempt: int) -> None:
        self._have, self._want, self._attempt = have, want, attempt
        self._text: int | None = have.open_text  # the text that may still grow
        self._is_open = True  # whether readers know of it
        self._rest = Slices("")
        if self._text is not None:
            self._rest = Slices(want.parts[self._text].text, have.parts[self._text].units)

    def emit(self) -> Iterator[events.AnyEvent]:
        have, want = self._have.parts, self._want.parts
        for number, (held, wanted) in enumerate(zip(have, want, strict=False)):
            if wanted.type != "text":
                yield from self._streamed(number, held.units)
            yield from self._part(number, _patch(held.fields, wanted.fields))
        for number in range(len(have), len(want)):
            yield from self._opened(number, want[number])
        yield from self._text_until(None)

    def _opened(self, number: int, part: Part) -> Iterator[events.AnyEvent]:
        at = part.fields.get("at")
        inside = "at" in part.fields and part.type != "text"
        yield from self._text_until(at if inside and isinstance(at, int) else None)
        if not inside:
            self._text = None
        first = _first_fields(part)
        by_itself = part.type == "text" or (part.type == "reasoning" and part.units > 0)
        if first or not by_itself:
            yield from self._part(number, first, opens=True)
        if part.type == "text":
            self._text, self._is_open, self._rest = number, bool(first), Slices(part.text)
        else:
            yield from self._streamed(number, 0)
        if part.type == "tool_call":
            yield from self._part(number, _patch(first, part.fields))

    def _text_until(self, at: int | None) -> Iterator[events.AnyEvent]:
        """Emit the open text up to an offset in content (None: all of it)."""
        if self._text is None:
            return
        start = self._want.parts[self._text].start
        offset = start + self._rest.taken_units
        rest = self._rest.take(None if at is None else at - start)
        if not rest and not self._is_open:
            yield from self._part(self._text, {}, opens=True)
        for piece in pieces(rest, events.MAX_EVENT_TEXT_BYTES):
            yield events.Chunk(self._want.id, self._attempt, offset, piece, self._text)
            offset += utf16_length(piece)
        self._is_open = True

    def _streamed(self, number: int, held: int) -> Iterator[events.AnyEvent]:
        """Emit the reasoning or input of a part behind the units that readers hold."""
        part = self._want.parts[number]
        kind = events.Reasoning if part.type == "reasoning" else events.ToolInput
        offset = part.start + held
        for piece in pieces(Slices(part.text, held).take(), events.MAX_EVENT_TEXT_BYTES):
            yield kind(self._want.id, self._attempt, offset, piece, number)
            offset += utf16_length(piece)

    def _part(
        self, number: int, fields: Mapping[str, Any], *, opens: bool = False
    ) -> Iterator[events.AnyEvent]:
        """Emit `part` events with these fields. None is larger than an event may be."""
        kind = self._want.parts[number].type
        value, size = {"type": kind}, 0
        for name, item in fields.items():
            weight = len(_json({name: item}))
            if size and size + weight > events.MAX_EVENT_TEXT_BYTES:
                yield events.PartEvent(self._want.id, self._attempt, number, value)
                value, size = {"type": kind}, 0
            value[name] = item
            size += weight
        if size or opens:
            yield events.PartEvent(self._want.id, self._attempt, number, value)


def _first_fields(part: Part) -> dict[str, Any]:
    """The fields that a part opens with. A call opens as `streaming`: its input follows."""
    if part.type != "tool_call":
        return part.fields
    names = ("at", "id", "name")
    known = {name: part.fields[name] for name in names if name in part.fields}
    return {**known, "state": "streaming"}


def _patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The fields to merge into `old` so that it becomes `new`; null removes a field."""
    changed = {
        name: item  # most values are the same object
        for name, item in new.items()
        if name not in old or (old[name] is not item and _json(old[name]) != _json(item))
    }
    changed |= dict.fromkeys(name for name in old if name not in new)
    # What a state promises, such as a result, is there before it, if one event cannot hold both.
    return changed | {"state": changed.pop("state")} if "state" in changed else changed


def _json(value: Any) -> str:
    """The value as JSON, for comparison: in Python, 1 equals True."""
    return json.dumps(value, sort_keys=True)
