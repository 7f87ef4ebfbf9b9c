"""Pure: a reader's place in one log. Decides what comes next and whether a cursor can be served.

What it guarantees
1. A reader begins after a cursor, or at the top ("from now on"). Events follow in the order of
   `seq`: none twice, none left out.
2. There is no queue: a reader that falls behind is served from its cursor, out of the ring or,
   where the ring does not reach back, out of the log.
3. A cursor that cannot be served (trimmed, of a log that began again, or beyond its top) ends the
   reading before any event that does not follow. A cursor of an earlier epoch is good as long as
   the log shares it. The reader learns the new epoch before its first event.
4. A reader is at the tip only if it has everything up to the highest top that was seen since the
   log last changed: by pub/sub, by a page or by a heartbeat.

Why it works this way
A reader has two sources. The tail of this process gets events at once, but forgets them. Pages of
the log are late, but complete. Both are asked by `seq` alone, so the order of their replies does
not matter. Only the tail announces another epoch: a page of another epoch is refused, and the tail,
which knows of it by then (`Tail.read`), is asked again. If such pages were accepted, a WebSocket
reader would get events before it knows the name of their epoch.
`next` returns the entries themselves or a constant, so no object is created per event and reader.
The session of a WebSocket inherits this class: with thousands of conversations, each further object
on the way of an event costs a miss in the processor's cache.

Rejected: a queue per reader (memory for readers that do not read), a page's top as the new goal (a
page that was read before a heartbeat would undo what the heartbeat saw).
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Final, Literal, Protocol, TypeVar

from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Sendable
from tokenwire.protocol.frames import ResyncReason
from tokenwire.streams.log.ports import Page

BATCH_BYTES = 16 * 1024
"""Events are written together up to about this size: one system call for many of them."""

T = TypeVar("T", bound=Sendable)
CursorEnd = ResyncReason | Literal["deleted"]


class Next(Enum):
    """What `LogCursor.next` returns instead of entries."""

    AT_TIP = auto()
    """The reader has everything that was seen of the log."""
    NEED_PAGE = auto()
    """Read a page after `cursor` and pass it to `fetched`."""
    FORKED = auto()
    """The log forked after the cursor; the reader continues as `epoch`. Call `next` again."""
    END = auto()
    """The end: `ended` holds the reason."""


AT_TIP: Final = Next.AT_TIP
NEED_PAGE: Final = Next.NEED_PAGE
FORKED: Final = Next.FORKED
END: Final = Next.END


class LogTail(Protocol):
    """This process's part of a conversation's log (streams.hub.hub.Tail).

    `since` returns None if entries are missing. `version` changes whenever cursors must be checked
    again, with the help of `forks` (`streams.log.ports.Page`).
    """

    @property
    def epoch(self) -> str: ...
    @property
    def forks(self) -> Mapping[str, int]: ...
    @property
    def version(self) -> int: ...
    @property
    def top(self) -> int: ...
    @property
    def gone(self) -> bool: ...
    def since(self, after: int, /) -> Sequence[Sendable] | None: ...


def resync_reason(after: Cursor, log: Page) -> ResyncReason | None:
    """Why a log of this state cannot serve the events after `after`; None: it can."""
    shared = log.shared(after.epoch)
    if shared is None:
        return "epoch"
    if after.seq > shared:
        return "ahead" if after.epoch == log.epoch else "epoch"
    return "trimmed" if after.seq < log.oldest - 1 else None


def carried(cursor: Cursor, tail: LogTail) -> bool:
    """Whether everything up to `cursor` is part of the log that `tail` knows."""
    shared = tail.forks.get(cursor.epoch)
    return cursor.epoch == tail.epoch if shared is None else cursor.seq <= shared


def follows(entries: Sequence[Sendable], after: int) -> bool:
    """Whether the entries follow seq `after` directly, without a hole."""
    return bool(entries) and entries[0].seq == after + 1 and entries[-1].seq == after + len(entries)


def fitting(entries: Sequence[T], max_bytes: int) -> Sequence[T]:
    """The first entries, as many as fit into `max_bytes` of data; at least one."""
    size = 0
    for count, entry in enumerate(entries):
        size += len(entry.data)
        if size > max_bytes and count:
            return entries[:count]
    return entries


class LogCursor:
    """A reader of the events after `after` (None: from now on).

    Call `begin`, then `next` repeatedly, and `passed` for the events that were sent.
    """

    __slots__ = ("_goal", "_version", "after", "behind", "ended", "epoch", "seq")

    def __init__(self, after: Cursor | None = None) -> None:
        self.after = after
        self._goal = self._version = 0
        self.epoch = after.epoch if after else ""
        self.seq = after.seq if after else 0
        """The last event that was sent."""
        self.behind = True
        """Call `next` again: its last result was not AT_TIP, or more was seen since."""
        self.ended: CursorEnd | None = None
        """Why the reading has ended, or None."""

    @property
    def cursor(self) -> Cursor:
        """Everything up to here was sent."""
        return Cursor(self.epoch, self.seq)

    def confirmed_by(self, tail: LogTail) -> bool:
        """Whether `tail` can confirm `after` by itself, without a read of the log."""
        after = self.after
        return after is None or (carried(after, tail) and tail.since(after.seq) is not None)

    def begin(self, log: Page, version: int) -> None:
        """Check `after` against a log in this state. `version`: that of the tail for `next`."""
        self._version, self._goal = version, log.top
        if self.after is None:
            self.epoch, self.seq = log.epoch, log.top
        elif reason := resync_reason(self.after, log):
            self._end(reason)
        else:
            self.epoch, self.seq = log.epoch, self.after.seq

    def next(self, tail: LogTail) -> Sequence[Sendable] | Next:
        """The entries after `cursor` (never an empty list), or what to do instead."""
        if tail.gone:
            self.deleted()
        if self.ended is not None:
            return END
        if (tail.version != self._version or tail.epoch != self.epoch) and (
            turn := self._recheck(tail)
        ):
            return turn
        seq, top = self.seq, tail.top
        if seq >= top and seq >= self._goal:
            self.behind = False
            return AT_TIP
        self.behind = True
        entries = tail.since(seq) if seq < top else None
        return entries if entries and follows(entries, seq) else NEED_PAGE

    def _recheck(self, tail: LogTail) -> Next | None:
        """Check the cursor against the log that the tail knows now. None: the epoch is the same."""
        self._version, self._goal = tail.version, 0
        if not carried(self.cursor, tail):
            self._end("epoch")
            return END
        if tail.epoch == self.epoch:
            return None
        self.epoch, self.behind = tail.epoch, True
        return FORKED

    def fetched(self, page: Page) -> Sequence[Sendable]:
        """The entries of a page that was read after `cursor`.

        Empty if the page has another epoch, or shows an end (`ended`). Then call `next` again.
        """
        if self.ended is not None:
            return ()
        reason = resync_reason(self.cursor, page)
        if reason is None and self.seq < page.top and not follows(page.entries, self.seq):
            reason = "trimmed"
        if reason is not None:
            self._end(reason)
            return ()
        if page.epoch != self.epoch:
            return ()
        # A page is read only if more was seen. If the page has no more, the log was set back
        # under its old epoch. Then the goal is lowered, or reading would never end.
        self._goal = max(self._goal, page.top) if page.entries else page.top
        return page.entries

    def takes(self, before: int, last: int) -> bool:
        """Whether the events after `before`, up to `last`, come next. If so, they count as sent.

        This is the fast path: it needs no entries.
        """
        if self.behind or self.seq != before:
            return False
        self.seq = last
        return True

    def passed(self, seq: int) -> None:
        """Everything up to `seq` was sent."""
        self.seq = seq

    def confirm(self, log: Page) -> bool:
        """Whether the reader has everything of a log in this state. If not, call `next`."""
        if self.ended is not None or log.epoch != self.epoch:
            self.behind = True
            return False
        self._goal = max(self._goal, log.top)
        self.behind = self.behind or self.seq < self._goal
        return not self.behind

    def deleted(self) -> None:
        """End the reading: the conversation was deleted."""
        self._end(self.ended or "deleted")

    def _end(self, reason: CursorEnd) -> None:
        self.ended, self.behind = reason, True
