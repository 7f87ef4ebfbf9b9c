"""Pure: one reader's place in a log. Decides what comes next, whether the place can be served at all, and why not.

Rules
1. A cursor begins after a position, or at the top ("from now on"). Events follow it in the order of `seq`: none twice, none left out.
2. There is no queue: whoever falls behind is served from its cursor, out of the ring or, where that does not reach back, out of the log.
3. A position that cannot be served (trimmed away, another epoch, beyond the top) ends the reading before anything that does not follow.
4. A reader is at the tip only if it has everything up to the highest top that was seen, by the feed or by a look at the log.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from streams.frames import ResyncReason, Sendable
from streams.ports import Page
from streams.positions import Position

CursorEnd = ResyncReason | Literal["deleted"]


class Source(Protocol):
    """What this process holds of a conversation's log (streams.hub.Tail). `since` gives None for what is not held."""

    @property
    def epoch(self) -> str: ...
    @property
    def top(self) -> int: ...
    @property
    def gone(self) -> bool: ...
    def since(self, after: int, /) -> Sequence[Sendable] | None: ...


def verdict(position: Position, epoch: str, oldest: int, top: int) -> ResyncReason | None:
    """Why a log that stands like this cannot serve what follows `position`; None: it can."""
    if position.epoch != epoch:
        return "epoch"
    if position.seq > top:
        return "ahead"
    return "trimmed" if position.seq < oldest - 1 else None


def follows(entries: Sequence[Sendable], after: int) -> bool:
    """Whether the entries are what comes right after seq `after`, without a hole."""
    return bool(entries) and entries[0].seq == after + 1 and entries[-1].seq == after + len(entries)


def heartbeat_delay(running: bool, running_seconds: float, idle_seconds: float) -> float:
    """Seconds from one heartbeat to the next: short while a generation runs, because then a missed event would be seen."""
    return min(running_seconds, idle_seconds) if running else idle_seconds


def portion(entries: Sequence[Sendable], max_bytes: int) -> Sequence[Sendable]:
    """The first entries, as many as fit into `max_bytes` of data; at least one."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.data)
        if size > max_bytes and count:
            return entries[:count]
    return entries


class Cursor:
    """A reader that wants what follows `after` (None: from now on). Call `begin`, then `next`, again and again."""

    __slots__ = ("_after", "_goal", "end", "epoch", "seq")

    def __init__(self, after: Position | None) -> None:
        self._after = after
        self._goal = 0
        self.epoch = after.epoch if after else ""
        self.seq = after.seq if after else 0
        """The last event that was handed on."""
        self.end: CursorEnd | None = None
        """Why nothing follows any more."""

    @property
    def position(self) -> Position:
        """Everything up to here was handed on."""
        return Position(self.epoch, self.seq)

    def held_by(self, source: Source) -> bool:
        """Whether `source` alone can tell that the position is good, so that the log need not be asked."""
        after = self._after
        if after is None:
            return True
        return after.epoch == source.epoch and after.seq <= source.top and source.since(after.seq) is not None

    def begin(self, epoch: str, oldest: int, top: int) -> None:
        """Judge the position by a log that stands like this."""
        if self._after is None:
            self.epoch, self.seq = epoch, top
        else:
            self.end = verdict(self._after, epoch, oldest, top)
        self._goal = top

    def next(self, source: Source) -> Sequence[Sendable] | None:
        """What follows: none at the tip (or at the end, see `end`); None where a page after `seq` must be read, for `fetched`."""
        if self.end is None and source.gone:
            self.end = "deleted"
        if self.end is None and source.epoch != self.epoch:
            self.end = "epoch"
        if self.end is not None:
            return ()
        if self.seq >= source.top:
            return None if self.seq < self._goal else ()
        entries = source.since(self.seq)
        return entries if entries and follows(entries, self.seq) else None

    def fetched(self, page: Page) -> Sequence[Sendable]:
        """What follows according to a page that was read after `seq`."""
        if self.end is not None:
            return ()
        reason = verdict(self.position, page.epoch, page.oldest, page.top)
        if reason is None and self.seq < page.top and not follows(page.entries, self.seq):
            reason = "trimmed"
        if reason is not None:
            self.end = reason
            return ()
        self._goal = page.top
        return page.entries

    def passed(self, seq: int) -> None:
        """Everything up to `seq` was handed on."""
        self.seq = seq

    def confirm(self, epoch: str, top: int) -> bool:
        """The log was seen to stand at `top`: whether that is where this reader is."""
        if self.end is None and epoch != self.epoch:
            self.end = "epoch"
        if self.end is not None:
            return False
        self._goal = max(self._goal, top)
        return self.seq >= top
