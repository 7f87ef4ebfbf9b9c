"""Pure: one reader's place in a log. Decides what comes next, whether the place can be served at all, and why not.

Rules
1. A cursor begins after a position, or at the top ("from now on"). Events follow it in the order of `seq`: none twice, none left out.
2. There is no queue: whoever falls behind is served from its cursor, out of the ring or, where that does not reach back, out of the log.
3. A position that cannot be served (trimmed away, a log that began again, beyond what is left of it) ends the reading before anything
   that does not follow. A position of an earlier epoch is good as long as the log shares it.
4. A reader is at the tip only if it has everything up to the highest top that was seen, by the feed or by a look at the log.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.frames import ResyncReason, Sendable
from tokenwire.streams.log.ports import Page

T = TypeVar("T", bound=Sendable)
CursorEnd = ResyncReason | Literal["deleted"]


class LogTail(Protocol):
    """What this process holds of a conversation's log (streams.hub.hub.Tail). `since` gives None for what is not held.

    `life` is another one whenever positions must be judged again, by `forks` (`streams.log.ports.Page`).
    """

    @property
    def epoch(self) -> str: ...
    @property
    def forks(self) -> Mapping[str, int]: ...
    @property
    def life(self) -> int: ...
    @property
    def top(self) -> int: ...
    @property
    def gone(self) -> bool: ...
    def since(self, after: int, /) -> Sequence[Sendable] | None: ...


def verdict(position: Cursor, log: Page) -> ResyncReason | None:
    """Why a log that stands like this cannot serve what follows `position`; None: it can."""
    shared = log.shared(position.epoch)
    if shared is None:
        return "epoch"
    if position.seq > shared:
        return "ahead" if position.epoch == log.epoch else "epoch"
    return "trimmed" if position.seq < log.oldest - 1 else None


def carried(position: Cursor, source: LogTail) -> bool:
    """Whether all that lies before `position` is part of what `source` tells of now."""
    shared = source.forks.get(position.epoch)
    return position.epoch == source.epoch if shared is None else position.seq <= shared


def held_by(position: Cursor, source: LogTail) -> bool:
    """Whether `source` alone can tell that the position is good, so that the log need not be asked."""
    return (
        carried(position, source)
        and position.seq <= source.top
        and source.since(position.seq) is not None
    )


def follows(entries: Sequence[Sendable], after: int) -> bool:
    """Whether the entries are what comes right after seq `after`, without a hole."""
    return bool(entries) and entries[0].seq == after + 1 and entries[-1].seq == after + len(entries)


def heartbeat_delay(running: bool, running_seconds: float, idle_seconds: float) -> float:
    """Seconds from one heartbeat to the next: short while a generation runs, because then a missed event would be seen."""
    return min(running_seconds, idle_seconds) if running else idle_seconds


def portion(entries: Sequence[T], max_bytes: int) -> Sequence[T]:
    """The first entries, as many as fit into `max_bytes` of data; at least one."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.data)
        if size > max_bytes and count:
            return entries[:count]
    return entries


class LogCursor:
    """A reader that wants what follows `after` (None: from now on). Call `begin`, then `next`, again and again."""

    __slots__ = ("_after", "_goal", "_life", "end", "epoch", "seq")

    def __init__(self, after: Cursor | None) -> None:
        self._after = after
        self._goal = self._life = 0
        self.epoch = after.epoch if after else ""
        self.seq = after.seq if after else 0
        """The last event that was handed on."""
        self.end: CursorEnd | None = None
        """Why nothing follows any more."""

    @property
    def position(self) -> Cursor:
        """Everything up to here was handed on."""
        return Cursor(self.epoch, self.seq)

    def held_by(self, source: LogTail) -> bool:
        """Whether `source` alone can tell that the position is good, so that the log need not be asked."""
        return self._after is None or held_by(self._after, source)

    def begin(self, log: Page, life: int) -> None:
        """Judge the position by a log that stands like this. `life`: of the source from which `next` will read."""
        self._life, self._goal = life, log.top
        if self._after is None:
            self.epoch, self.seq = log.epoch, log.top
            return
        self.end = verdict(self._after, log)
        if self.end is None:
            self.epoch = log.epoch

    def next(self, source: LogTail) -> Sequence[Sendable] | None:
        """What follows: none at the tip (or at the end, see `end`); None where a page after `position` must be read, for `fetched`."""
        if self.end is None and source.gone:
            self.end = "deleted"
        if self.end is None and (source.life != self._life or source.epoch != self.epoch):
            self._carry_over(source)
        if self.end is not None:
            return ()
        if self.seq >= source.top:
            return None if self.seq < self._goal else ()
        entries = source.since(self.seq)
        return entries if entries and follows(entries, self.seq) else None

    def _carry_over(self, source: LogTail) -> None:
        self._life, self._goal = source.life, 0
        if carried(self.position, source):
            self.epoch = source.epoch
        else:
            self.end = "epoch"

    def fetched(self, page: Page) -> Sequence[Sendable]:
        """What follows according to a page that was read after `seq`."""
        if self.end is not None:
            return ()
        reason = verdict(self.position, page)
        if reason is None and self.seq < page.top and not follows(page.entries, self.seq):
            reason = "trimmed"
        if reason is not None:
            self.end = reason
            return ()
        self.epoch, self._goal = page.epoch, page.top
        return page.entries

    def passed(self, seq: int) -> None:
        """Everything up to `seq` was handed on."""
        self.seq = seq

    def confirm(self, log: Page) -> bool:
        """The log was seen to stand like this: whether that is where this reader is. `next` knows what to do if not."""
        if self.end is not None or log.epoch != self.epoch:
            return False
        self._goal = max(self._goal, log.top)
        return self.seq >= log.top
