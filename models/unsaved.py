"""Pure: which parts of a running answer the next checkpoint must carry.

Guarantees: after any committed checkpoint, the rows give exactly the answer at the time when that
checkpoint was taken. A change that is known to be stored is not written again.

Why it works this way: two checkpoints of one answer may be under way at once. Either may be
committed late, refused, skipped (the row is locked), or lost without a reply. So each change is
noted with the number of the first checkpoint that carries it. Every checkpoint carries it until
that one, or a later one, is known to be stored. The database refuses an older checkpoint after a
newer one, which contains everything that the older one had.

Rejected: a set of changed numbers that a stored checkpoint empties (it would forget what changed
since that checkpoint was taken); comparing with what was stored (a second copy of the answer).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from tokenwire.models.parts import StoredPart, stored
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer


class PartsToSave(NamedTuple):
    """The changes of `unfinished_parts` that a checkpoint carries.

    `deleted_from`: rows with this number or a higher one are deleted first (None: no row).
    """

    parts: tuple[StoredPart, ...] = ()
    deleted_from: int | None = None

    def __bool__(self) -> bool:
        """Whether there are any changes."""
        return bool(self.parts) or self.deleted_from is not None

    def text_only(self) -> "PartsToSave":
        """The same changes, with the texts of the parts alone."""
        return self._replace(parts=tuple(part.text_only() for part in self.parts))


NO_PARTS: Final = PartsToSave()
_TEXTS: Final = (events.Chunk, events.Reasoning)


class _UnfinishedRow(Protocol):
    part_count: int
    open_text: int | None
    open_reasoning: int | None


class UnsavedParts:
    """The unsaved parts of one attempt.

    When the attempt begins, the parts `rows` have rows of their own, and the texts of the parts
    `open_parts` are in the message's row. Both are numbers of parts.
    """

    def __init__(self, rows: Iterable[int] = (), open_parts: Iterable[int] = ()) -> None:
        self.saves = 0
        """The number of checkpoints taken so far."""
        self._changed: dict[int, int] = {}
        self._cuts: list[tuple[int, int]] = []
        self._rows = set(rows)
        self._open = set(open_parts)

    @classmethod
    def following(cls, row: _UnfinishedRow, saved: Answer, answer: Answer) -> "UnsavedParts":
        """The unsaved parts of an attempt that resumes `answer` from a row that holds `saved`.

        A row of the previous version holds text, but no parts. Then all parts are unsaved, and any
        rows of parts beside it are leftovers.
        """
        found = cls(range(row.part_count), _open_parts(row.open_text, row.open_reasoning))
        known = min(row.part_count, len(answer.parts))
        found.touched(range(known, len(answer.parts)))
        found.touched(n for n in range(known) if not saved.parts[n].equals(answer.parts[n]))
        if row.part_count > known or (row.part_count == 0 and saved.parts):
            found._cuts.append((known, 1))
            found._rows = set(range(known))
        return found

    def applied(self, event: events.AnyEvent, touched: range) -> None:
        """An event was applied to the answer. `touched` is the result of `Answer.apply`."""
        if isinstance(event, _TEXTS):
            # The message's row has the text of a growing part; `take` notices its end.
            if touched and touched.start not in self._open:
                self.touched(touched)
        else:
            self.touched(touched)
        if isinstance(event, events.Reset) and touched:
            self._cuts.append((touched.start, self.saves + 1))
            self._rows = {number for number in self._rows if number < touched.start}

    def touched(self, numbers: Iterable[int]) -> None:
        """These parts have changed."""
        for number in numbers:
            self._changed[number] = self.saves + 1

    def take(self, answer: Answer) -> PartsToSave:
        """The changes that the next checkpoint carries. `saves` is its number from now on."""
        self.saves += 1
        is_open = _open_parts(answer.open_text, answer.open_reasoning)
        self._changed |= dict.fromkeys(self._open - is_open, self.saves)  # their texts move out
        self._changed |= dict.fromkeys((is_open - self._open) & self._rows, self.saves)  # move in
        self._changed = {n: save for n, save in self._changed.items() if n < len(answer.parts)}
        self._open = is_open
        parts = [stored(answer, n) for n in sorted(self._changed) if self._needs_row(answer, n)]
        self._rows |= {part.number for part in parts}
        return PartsToSave(tuple(parts), min((first for first, _ in self._cuts), default=None))

    def _needs_row(self, answer: Answer, number: int) -> bool:
        """Whether a part needs a row. An open text without fields is in the message's row."""
        part = answer.parts[number]
        return bool(number not in self._open or number in self._rows or part.fields or part.kept)

    def saved(self, save: int) -> None:
        """The checkpoint with this number, or a later one, is stored."""
        self._changed = {n: first for n, first in self._changed.items() if first > save}
        self._cuts = [cut for cut in self._cuts if cut[1] > save]


def _open_parts(*numbers: int | None) -> set[int]:
    return {number for number in numbers if number is not None}
