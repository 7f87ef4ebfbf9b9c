"""streams.hub.log_cursor: a reader gets what follows its cursor, once and in order, or the reason
why not.

A WebSocket's session inherits LogCursor; tests/unit/broadcaster has its additions.
"""

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.examples import many
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Entry, Sendable
from tokenwire.streams.hub.log_cursor import (
    AT_TIP,
    END,
    FORKED,
    NEED_PAGE,
    LogCursor,
    Next,
    fitting,
    follows,
    resync_reason,
)
from tokenwire.streams.log.ports import Page


class Tail:
    """This process's part of a log."""

    def __init__(self, epoch: str = "e", top: int = 0, held: int = 0) -> None:
        self.epoch, self.top, self.held, self.gone = epoch, top, held, False
        self.version, self.forks = 1, dict[str, int]()

    def since(self, after: int) -> list[Entry] | None:
        missing = self.top - after
        return entries(after + 1, self.top) if 0 <= missing <= self.held else None


def entries(first: int, last: int) -> list[Entry]:
    return [Entry(seq, b"%d" % seq) for seq in range(first, last + 1)]


def page(
    after: int,
    last: int,
    *,
    top: int | None = None,
    oldest: int = 1,
    epoch: str = "e",
    forks: dict[str, int] | None = None,
) -> Page:
    listed = entries(after + 1, last)
    return Page(epoch, oldest, last if top is None else top, None, listed, forks or {})


def log(top: int, epoch: str = "e") -> Page:
    """The log without entries, as a heartbeat reads it."""
    return page(0, 0, top=top, epoch=epoch)


def seqs(found: Sequence[Sendable] | Next) -> list[int]:
    assert not isinstance(found, Next)
    return [entry.seq for entry in found]


def begun(after: int, top: int) -> LogCursor:
    cursor = LogCursor(Cursor("e", after))
    cursor.begin(log(top), 1)
    return cursor


def at_tip(seq: int) -> LogCursor:
    cursor = begun(seq, seq)
    assert cursor.next(Tail(top=seq)) is AT_TIP
    return cursor


@pytest.mark.parametrize(
    ("after", "log_as_it_is", "expected"),
    [
        (Cursor("e", 5), ("e", 1, 9), None),
        (Cursor("e", 9), ("e", 1, 9), None),
        (Cursor("e", 10), ("e", 1, 9), "ahead"),
        (Cursor("e", 0), ("e", 1, 9), None),
        (Cursor("e", 3), ("e", 4, 9), None),
        (Cursor("e", 2), ("e", 4, 9), "trimmed"),
        (Cursor("e", 9), ("e", 10, 9), None),
        (Cursor("e", 8), ("e", 10, 9), "trimmed"),
        (Cursor("e", 0), ("e", 1, 0), None),
        (Cursor("f", 5), ("e", 1, 9), "epoch"),
        (Cursor("f", 99), ("e", 5, 9), "epoch"),
    ],
)
def test_which_cursors_can_be_served(
    after: Cursor, log_as_it_is: tuple[str, int, int], expected: str | None
) -> None:
    """`verdict` over (epoch, oldest, top)."""
    assert resync_reason(after, Page(*log_as_it_is, None)) == expected


@pytest.mark.parametrize(
    ("after", "reason"), [("f:5", "epoch"), ("e:10", "ahead"), ("e:2", "trimmed"), ("e:5", None)]
)
def test_a_cursor_is_checked_before_any_event(after: str, reason: str | None) -> None:
    """The log holds 4 to 9 of the epoch e."""
    epoch, _, seq = after.partition(":")
    cursor = LogCursor(Cursor(epoch, int(seq)))
    cursor.begin(page(0, 0, top=9, oldest=4), 1)
    assert cursor.ended == reason
    assert (cursor.next(Tail(top=9, held=9)) is END) is (reason is not None)


def test_a_portion_has_no_hole() -> None:
    """Neither before nor within, and it is not empty."""
    assert follows(entries(3, 5), 2)
    assert not follows(entries(3, 5), 1)
    assert not follows([*entries(3, 4), *entries(6, 6)], 2)
    assert not follows([], 2)


@pytest.mark.parametrize(("most", "taken"), [(0, 1), (1, 1), (2, 2), (100, 5)])
def test_a_portion_is_never_empty_and_fits_if_it_can(most: int, taken: int) -> None:
    """One byte each."""
    assert fitting(entries(1, 5), most) == entries(1, taken)


def test_without_a_cursor_it_begins_at_the_top() -> None:
    """Nothing older is sent; new events are."""
    cursor, tail = LogCursor(), Tail(top=7, held=7)
    assert cursor.confirmed_by(tail)
    cursor.begin(log(7), 1)
    assert (cursor.cursor, cursor.next(tail)) == (Cursor("e", 7), AT_TIP)
    tail.top = 8
    assert seqs(cursor.next(tail)) == [8]


def test_the_ring_serves_its_events_and_the_log_the_rest() -> None:
    """A page is requested exactly where the ring does not reach back."""
    cursor, tail = begun(2, 9), Tail(top=9, held=3)
    assert cursor.next(tail) is NEED_PAGE
    assert seqs(cursor.fetched(page(2, 6, top=9))) == [3, 4, 5, 6]
    cursor.passed(6)
    assert seqs(cursor.next(tail)) == [7, 8, 9]
    cursor.passed(9)
    assert cursor.next(tail) is AT_TIP


def test_a_ring_with_a_hole_is_not_used() -> None:
    """Its missing events are read."""
    cursor, tail = begun(2, 9), Tail(top=9, held=9)
    with_a_hole = [*entries(3, 3), *entries(5, 9)]
    tail.since = lambda _: with_a_hole  # type: ignore[method-assign]
    assert cursor.next(tail) is NEED_PAGE


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (page(2, 2, top=9, oldest=5), "trimmed"),
        (page(3, 6, top=9), "trimmed"),
        (page(2, 2, top=9), "trimmed"),
        (page(0, 0, epoch="f"), "epoch"),
        (page(0, 0, top=1), "ahead"),
        (page(2, 5, epoch="f", forks={"e": 1}), "epoch"),
    ],
)
def test_a_page_that_does_not_follow_ends_it(shown: Page, reason: str) -> None:
    """Nothing of that page is sent; the first reason stays."""
    cursor = begun(2, 9)
    assert cursor.fetched(shown) == ()
    assert cursor.ended == reason
    assert cursor.behind
    assert cursor.next(Tail(top=9, held=9)) is END
    assert cursor.fetched(page(2, 9)) == ()
    cursor.deleted()
    assert cursor.ended == reason


def test_a_deletion_comes_before_another_epoch() -> None:
    """Whether the tail or a page reports it."""
    cursor, tail = begun(2, 2), Tail(epoch="f")
    tail.gone = True
    assert cursor.next(tail) is END
    other = begun(2, 2)
    other.deleted()
    assert (cursor.ended, other.ended) == ("deleted", "deleted")
    assert not cursor.confirm(log(2))


# Three rules that WebSocket and HTTP readers once had in two versions


def test_an_older_page_does_not_undo_a_heartbeat() -> None:
    """The page was read when the log ended at 5, the heartbeat at 7: 5 is not the tip."""
    cursor, tail = begun(2, 4), Tail(top=2)
    assert cursor.next(tail) is NEED_PAGE
    assert not cursor.confirm(log(7))
    assert seqs(cursor.fetched(page(2, 5))) == [3, 4, 5]
    cursor.passed(5)
    assert cursor.next(tail) is NEED_PAGE
    assert seqs(cursor.fetched(page(5, 7))) == [6, 7]
    cursor.passed(7)
    assert cursor.next(tail) is AT_TIP


def test_a_page_of_another_epoch_is_left_to_the_tail() -> None:
    """Nothing of it comes before FORKED: events never come under an unknown name."""
    cursor, tail = begun(2, 9), Tail(top=9)
    assert cursor.next(tail) is NEED_PAGE
    assert cursor.fetched(page(2, 5, epoch="f", forks={"e": 3})) == ()
    assert (cursor.ended, cursor.cursor) == (None, Cursor("e", 2))
    tail.epoch, tail.version, tail.forks, tail.top, tail.held = "f", 2, {"e": 3}, 5, 5
    assert cursor.next(tail) is FORKED
    assert (cursor.cursor, cursor.behind) == (Cursor("f", 2), True)
    assert seqs(cursor.next(tail)) == [3, 4, 5]


@pytest.mark.parametrize(("forks", "expected"), [({"e": 3}, FORKED), ({}, END)])
def test_a_heartbeat_of_another_epoch_changes_nothing(
    forks: dict[str, int], expected: Next
) -> None:
    """The reader counts as behind until the tail was asked."""
    cursor = at_tip(2)
    assert not cursor.confirm(log(2, epoch="f"))
    assert (cursor.behind, cursor.ended) == (True, None)
    assert not cursor.takes(2, 3)
    tail = Tail(epoch="f", top=3, held=3)
    tail.version, tail.forks = 2, forks
    assert cursor.next(tail) is expected
    assert cursor.ended == (None if forks else "epoch")


# At the tip


def test_the_tip_includes_everything_that_was_seen() -> None:
    """If the log holds more than pub/sub brought, the reader reads."""
    cursor, tail = at_tip(2), Tail(top=2)
    assert cursor.confirm(log(2))
    assert cursor.confirm(log(1))
    assert not cursor.confirm(log(3))
    assert cursor.next(tail) is NEED_PAGE
    assert not cursor.confirm(log(2)), "an older look confirms nothing that a newer one denied"
    assert seqs(cursor.fetched(page(2, 3))) == [3]
    cursor.passed(3)
    assert cursor.next(tail) is AT_TIP
    assert cursor.confirm(log(3))


def test_the_fast_path_is_for_readers_at_the_tip() -> None:
    """Not before AT_TIP, at another seq, after more was seen, or after the end."""
    cursor, tail = begun(2, 2), Tail(top=2)
    assert not cursor.takes(2, 3)
    assert cursor.next(tail) is AT_TIP
    assert not cursor.takes(1, 3)
    assert cursor.takes(2, 3)
    assert cursor.seq == 3
    assert not cursor.confirm(log(5))
    assert not cursor.takes(3, 4)
    cursor.deleted()
    assert not cursor.takes(3, 4)


def test_a_fork_after_the_cursor_is_followed_under_its_new_name() -> None:
    """Reported once; a fork before the cursor ends it."""
    cursor, beyond = at_tip(2), at_tip(4)
    tail = Tail(epoch="f", top=5, held=5)
    tail.version, tail.forks = 2, {"e": 3}
    assert cursor.next(tail) is FORKED
    assert seqs(cursor.next(tail)) == [3, 4, 5]
    assert beyond.next(tail) is END
    assert beyond.ended == "epoch"


def test_a_log_set_back_under_its_old_name_is_followed() -> None:
    """By readers that have not seen the lost events; earlier goals are dropped."""
    cursor, beyond = begun(2, 9), begun(6, 9)
    tail = Tail(top=5, held=5)
    tail.version, tail.forks = 2, {"e": 5}
    assert seqs(cursor.next(tail)) == [3, 4, 5]
    cursor.passed(5)
    assert cursor.next(tail) is AT_TIP
    assert beyond.next(tail) is END


def test_a_shrunken_log_does_not_cause_endless_reads() -> None:
    """A page that shows no more than the reader has gives the log's end."""
    cursor, tail = begun(2, 5), Tail(top=2)
    assert cursor.next(tail) is NEED_PAGE
    assert cursor.fetched(page(2, 2)) == []
    assert cursor.next(tail) is AT_TIP


@pytest.mark.parametrize(
    ("after", "held"),
    [
        ("e:5", False),
        ("e:6", True),
        ("e:9", True),
        ("e:10", False),
        ("f:7", False),
        ("d:7", True),
        ("d:8", False),
    ],
)
def test_which_cursors_the_tail_can_vouch_for(after: str, held: bool) -> None:
    """It holds 7 to 9; a later or foreign cursor may be newer than this process."""
    epoch, _, seq = after.partition(":")
    tail = Tail(top=9, held=3)
    tail.forks = {"d": 7}
    assert LogCursor(Cursor(epoch, int(seq))).confirmed_by(tail) is held


RARELY = st.sampled_from([False, False, False, True])


class World:
    """A log that grows, is trimmed, is lost and forks. An event names its epoch."""

    def __init__(self) -> None:
        self.lives, self.oldest = 0, 1
        self.forks = dict[str, int]()
        self.events: list[bytes] = []
        self.grow(3)

    @property
    def epoch(self) -> str:
        return f"e{self.lives}"

    @property
    def top(self) -> int:
        return len(self.events)

    def grow(self, count: int) -> None:
        self.events += [self.epoch.encode()] * count

    def fork(self, lost: int) -> None:
        del self.events[max(0, self.top - lost) :]
        self.oldest = min(self.oldest, self.top + 1)
        known = {**self.forks, self.epoch: self.top}
        self.forks = {epoch: min(seq, self.top) for epoch, seq in known.items()}
        self.lives += 1

    def lose(self) -> None:
        self.lives, self.events, self.oldest, self.forks = self.lives + 1, [], 1, {}

    def after(self, seq: int, last: int) -> list[Entry]:
        return [Entry(n, self.events[n - 1]) for n in range(seq + 1, min(last, self.top) + 1)]

    def read(self, cursor: Cursor, limit: int) -> Page:
        page = Page(self.epoch, self.oldest, self.top, None, [], dict(self.forks))
        if resync_reason(cursor, page) is None:
            page.entries.extend(self.after(cursor.seq, cursor.seq + limit))
        return page


class Interleavings(RuleBasedStateMachine):
    """A log, a tail that follows it late, delayed pages and heartbeats, and a reader."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.tail = Tail("e0", 3, 3)
        self.held: list[Entry] = self.world.after(0, 3)
        self.tail.since = self.since  # type: ignore[method-assign]
        self.cursor = LogCursor(Cursor("e0", 0))
        self.cursor.begin(self.world.read(Cursor("e0", 0), 0), 1)
        self.given = self.seen = 0
        self.asked = False
        self.page: Page | None = None
        self.looked: Page | None = None
        self.undone = False
        """Something happened that may end the reader."""

    def since(self, after: int) -> list[Entry] | None:
        """The ring's part of the received events."""
        held = 0 <= self.tail.top - after <= self.tail.held
        return self.held[after : self.tail.top] if held else None

    @rule(count=st.integers(1, 4), heard=st.booleans())
    def grow(self, count: int, heard: bool) -> None:
        self.world.grow(count)
        if heard:
            self.hear(2)

    @rule(held=st.integers(0, 6))
    def hear(self, held: int) -> None:
        tail, world = self.tail, self.world
        if tail.epoch != world.epoch:
            tail.version += 1
        tail.epoch, tail.forks, tail.top = world.epoch, dict(world.forks), world.top
        tail.held, self.held = min(held, world.top), world.after(0, world.top)

    @rule(left=st.integers(1, 8))
    def trim(self, left: int) -> None:
        self.world.oldest = max(self.world.oldest, self.world.top - left + 1)
        self.undone = True

    @precondition(lambda self: self.world.lives < 3)
    @rule(now=RARELY, lost=st.integers(-1, 3))
    def fork(self, now: bool, lost: int) -> None:
        if now:
            self.undone = True
            self.world.lose() if lost < 0 else self.world.fork(lost)

    @rule()
    def pull(self) -> None:
        if self.asked:
            return
        name, found = self.cursor.epoch, self.cursor.next(self.tail)
        assert self.cursor.behind is (found is not AT_TIP)
        self.asked = found is NEED_PAGE
        if found is AT_TIP:
            assert self.given >= max(self.seen, self.tail.top)
        elif found is FORKED:
            assert self.cursor.epoch != name
            self.seen = 0
        elif found is END:
            assert self.undone
        elif not isinstance(found, Next):
            self.take(found)

    @precondition(lambda self: self.asked and self.page is None)
    @rule(limit=st.integers(1, 3))
    def read(self, limit: int) -> None:
        self.page = self.world.read(self.cursor.cursor, limit)
        if self.page.epoch != self.tail.epoch or self.page.top < self.tail.top:
            self.hear(3)

    @precondition(lambda self: self.page is not None)
    @rule()
    def arrive(self) -> None:
        assert self.page is not None
        page, self.page, self.asked = self.page, None, False
        found = self.cursor.fetched(page)
        if page.epoch == self.cursor.epoch:
            self.seen = max(self.seen, page.top)
        self.take(found)

    @rule()
    def look(self) -> None:
        self.looked = self.world.read(Cursor("", 0), 0)

    @precondition(lambda self: self.looked is not None)
    @rule()
    def beat(self) -> None:
        assert self.looked is not None
        seen, self.looked = self.looked, None
        if seen.epoch == self.cursor.epoch:
            self.seen = max(self.seen, seen.top)
        if self.cursor.confirm(seen):
            assert (seen.epoch, self.given) == (self.cursor.epoch, max(self.given, self.seen))

    @rule()
    def take_the_fast_path(self) -> None:
        before, name = self.tail.top, self.tail.epoch
        self.hear(self.tail.held + 2)
        if name == self.tail.epoch and self.cursor.takes(before, self.tail.top):
            self.checked(self.held[before:])
            self.given = self.tail.top

    def take(self, found: Sequence[Sendable]) -> None:
        self.checked(found)
        if found:
            self.given = found[-1].seq
            self.cursor.passed(self.given)

    def checked(self, found: Sequence[Sendable]) -> None:
        assert [entry.seq for entry in found] == [
            self.given + number for number in range(1, len(found) + 1)
        ]
        if self.cursor.epoch == self.world.epoch:
            assert [entry.data for entry in found] == self.world.events[
                self.given : self.given + len(found)
            ]

    def teardown(self) -> None:
        """At the end the reader has everything, or the reason why not."""
        self.hear(2)
        for _ in range(200):
            self.pull()
            if self.asked and self.page is None:
                self.read(2)
            if self.page is not None:
                self.arrive()
            if not self.cursor.behind or self.cursor.ended:
                break
        if self.cursor.ended is None:
            assert self.cursor.cursor == Cursor(self.world.epoch, self.world.top)


Interleavings.TestCase.settings = settings(
    max_examples=many(300), stateful_step_count=40, deadline=None
)
test_every_interleaving = Interleavings.TestCase
