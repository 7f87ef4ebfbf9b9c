"""Pure: the deltas of an answer as the parts of its message, in order.

Guarantees: text, reasoning and inputs are those of the deltas; a kept value stays at its part. The
result goes back to its provider as `HistoryMessage("assistant", parts)`.

Why it works this way: a citation comes after the words that it supports, so the text is cut from
its end. Rejected: offsets from the beginning (unknown once another request resumed the answer).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tokenwire.protocol.slices import Slices
from tokenwire.protocol.text import utf16_length
from tokenwire.providers.base import (
    Delta,
    FileDelta,
    KeptDelta,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    Restart,
    SourceDelta,
    TextDelta,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
)
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    HistoryPart,
    Kept,
    KeptPart,
    ReasoningPart,
    TextPart,
)


class Collected:
    """The parts of one answer so far."""

    def __init__(self) -> None:
        self._parts: list[HistoryPart] = []
        self._calls: dict[int, tuple[int, list[str]]] = {}
        """The index of each call among the parts, and the pieces of its input."""
        self._open: type[TextPart | ReasoningPart] | None = None
        self._pieces: list[str] = []
        self._unended: int | None = None
        """The reasoning whose end has yet to come. Some providers end it behind later parts."""

    @property
    def parts(self) -> Sequence[HistoryPart]:
        """All parts, in order."""
        self._close()
        for place, pieces in self._calls.values():
            self._set(place, input="".join(pieces))
        return tuple(self._parts)

    def add(self, delta: Delta) -> None:
        """Add a delta at its place. Deltas that belong to no part change nothing."""
        match delta:
            case TextDelta(text) | RefusalDelta(text) if text:
                self._grow(TextPart, text)
            case ReasoningDelta(text):
                self._grow(ReasoningPart, text)
            case ReasoningEnd(kept):
                self._end_reasoning(kept)
            case ToolCallStart(index, id, name):
                self.append(CallPart(id, name, ""))
                self._calls[index] = (len(self._parts) - 1, [])
            case ToolCallArguments(index, json):
                self._calls[index][1].append(json)
            case ToolCallEnd(index, kept):
                self._set(self._calls[index][0], kept=kept)
            case SourceDelta(kept=Kept() as kept, cites=cites):
                self._cite(kept, cites)
            case FileDelta(media_type, data, url, kept):
                self.append(Attachment(media_type, data, url, kept=kept))
            case KeptDelta(dialect, kind, value):
                self.append(KeptPart(dialect, kind, value))
            case Restart():
                self._parts, self._pieces, self._open = [], [], None
                self._unended = None
                self._calls.clear()

    def append(self, part: HistoryPart) -> None:
        """Add a whole part."""
        self._close()
        self._parts.append(part)

    def _grow(self, kind: type[TextPart | ReasoningPart], text: str) -> None:
        if kind is not self._open:
            self._close()
            self._open = kind
        self._pieces.append(text)

    def _close(self) -> None:
        if self._open is not None:
            self._parts.append(self._open("".join(self._pieces)))
        if self._open is ReasoningPart:
            self._unended = len(self._parts) - 1
        self._open, self._pieces = None, []

    def _set(self, place: int, **fields: Any) -> None:
        self._parts[place] = replace(self._parts[place], **fields)

    def _end_reasoning(self, kept: Kept | None) -> None:
        if self._open is ReasoningPart:
            self._close()
        number, self._unended = self._unended, None
        if number is not None:
            self._set(number, kept=kept)
        elif kept is not None:
            self.append(ReasoningPart("", kept))

    def _cite(self, kept: Kept, cites: tuple[int, int] | None) -> None:
        """Cut the text at the start of the cited words. A citation without them stands alone: no
        provider takes an empty text back.
        """
        self._close()
        last = self._parts[-1] if self._parts else None
        start, end = cites or (0, 0)
        if not isinstance(last, TextPart) or start == 0 or end != 0:
            self.append(KeptPart(kept.dialect, kept.kind, kept.value))
            return
        before = Slices(last.text).take(utf16_length(last.text) - start)  # splits no character
        if before:
            self._parts[-1] = replace(last, text=before)
            self._parts.append(TextPart(last.text[len(before) :], (kept,)))
        else:
            self._set(-1, kept=(*last.kept, kept))
