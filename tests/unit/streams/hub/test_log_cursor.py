"""streams.hub.log_cursor: what a reader is given follows its position, each event once and in order, or it is told why not."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Entry
from tokenwire.streams.hub.log_cursor import LogCursor, follows, heartbeat_delay, portion, verdict
from tokenwire.streams.log.ports import Page


class Tail:
    """What this process holds of a log."""

    def __init__(self, epoch: str = "e", top: int = 0, held: int = 0) -> None:
        self.epoch, self.top, self.held, self.gone = epoch, top, held, False
        self.life, self.forks = 1, dict[str, int]()

    def since(self, after: int) -> list[Entry] | None:
        missing = self.top - after
        return entries(after + 1, self.top) if 0 <= missing <= self.held else None


def entries(first: int, last: int) -> list[Entry]:
    return [Entry(seq, b"%d" % seq) for seq in range(first, last + 1)]


def page(
    after: int, last: int, *, top: int | None = None, oldest: int = 1, epoch: str = "e"
) -> Page:
    return Page(epoch, oldest, last if top is None else top, None, entries(after + 1, last))


def begun(after: int, top: int) -> LogCursor:
    cursor = LogCursor(Cursor("e", after))
    cursor.begin(page(0, 0, top=top), 1)
    return cursor


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("e:5", None),
        ("e:10", None),
        ("e:4", None),
        ("e:3", "trimmed"),
        ("e:11", "ahead"),
        ("f:5", "epoch"),
        ("f:99", "epoch"),
    ],
)
def test_a_position_is_served_within_the_log_alone(position: str, expected: str | None) -> None:
    """The log holds 5 to 10: what follows 4 to 10 can be told."""
    epoch, _, seq = position.partition(":")
    assert verdict(Cursor(epoch, int(seq)), page(0, 0, top=10, oldest=5)) == expected


def test_what_follows_has_no_hole() -> None:
    """Neither before, nor within, nor nothing at all."""
    assert follows(entries(3, 5), 2)
    assert not follows(entries(3, 5), 1)
    assert not follows([*entries(3, 4), *entries(6, 6)], 2)
    assert not follows([], 2)


@pytest.mark.parametrize(("most", "taken"), [(0, 1), (1, 1), (2, 2), (100, 5)])
def test_a_portion_is_never_empty_and_fits_if_it_can(most: int, taken: int) -> None:
    """One byte each."""
    assert portion(entries(1, 5), most) == entries(1, taken)


def test_heartbeats_are_quick_while_something_runs() -> None:
    """And never slower than at rest."""
    assert [
        heartbeat_delay(True, 5, 25),
        heartbeat_delay(False, 5, 25),
        heartbeat_delay(True, 50, 25),
    ] == [5, 25, 25]


def test_without_a_position_it_begins_at_the_top() -> None:
    """Nothing before is given; what comes next is."""
    cursor, tail = LogCursor(None), Tail(top=7, held=7)
    assert cursor.held_by(tail)
    cursor.begin(page(0, 0, top=7), 1)
    assert (cursor.position, cursor.next(tail)) == (Cursor("e", 7), ())
    tail.top = 8
    assert cursor.next(tail) == entries(8, 8)


def test_the_ring_serves_what_it_holds_the_log_the_rest() -> None:
    """A page is asked for exactly where the ring does not reach back."""
    cursor, tail = begun(2, 9), Tail(top=9, held=3)
    assert cursor.next(tail) is None
    assert cursor.fetched(page(2, 6, top=9)) == entries(3, 6)
    cursor.passed(6)
    assert cursor.next(tail) == entries(7, 9)
    cursor.passed(9)
    assert cursor.next(tail) == ()


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (page(2, 2, top=9, oldest=5), "trimmed"),
        (page(3, 6, top=9), "trimmed"),
        (page(0, 0, epoch="f"), "epoch"),
        (page(0, 0, top=1), "ahead"),
    ],
)
def test_a_page_that_does_not_follow_ends_it(told: Page, reason: str) -> None:
    """Nothing of such a page is given out."""
    cursor = begun(2, 9)
    assert cursor.fetched(told) == ()
    assert cursor.end == reason
    assert cursor.next(Tail(top=9, held=9)) == ()
    assert cursor.fetched(page(2, 9)) == ()


def test_another_life_of_the_log_and_its_end_are_noticed() -> None:
    """Before anything of it is given out; the first reason stays."""
    cursor = begun(2, 2)
    assert cursor.next(Tail(epoch="f", top=5, held=5)) == ()
    assert cursor.end == "epoch"
    gone, other = begun(2, 2), Tail(epoch="f")
    other.gone = True
    assert gone.next(other) == ()
    assert gone.end == "deleted"
    assert not gone.confirm(page(0, 0, top=2, epoch="f"))
    assert gone.end == "deleted"


def test_it_is_at_the_tip_only_with_all_that_was_seen() -> None:
    """A look at the log that shows more than the feed brought makes it read."""
    cursor, tail = begun(2, 2), Tail(top=2)
    assert cursor.confirm(page(0, 0, top=2))
    assert not cursor.confirm(page(0, 0, top=3))
    assert cursor.next(tail) is None
    assert cursor.fetched(page(2, 3)) == entries(3, 3)
    assert not cursor.confirm(page(0, 0, top=3, epoch="f"))
    assert cursor.next(Tail(epoch="f", top=3)) == ()
    assert cursor.end == "epoch"


def test_it_goes_on_where_the_log_forked_behind_it() -> None:
    """Under the new name, whoever tells it first: the source, or a page."""
    told, read, beyond = begun(2, 2), begun(2, 9), begun(4, 4)
    source = Tail(epoch="f", top=5, held=5)
    source.life, source.forks = 2, {"e": 3}
    assert told.next(source) == entries(3, 5)
    assert told.position == Cursor("f", 2)
    forked = Page("f", 1, 5, None, entries(3, 5), {"e": 3})
    assert read.fetched(forked) == entries(3, 5)
    read.passed(5)
    assert (read.position, read.next(source)) == (Cursor("f", 5), ())
    assert beyond.next(source) == ()
    assert beyond.end == "epoch"


def test_a_log_that_shrank_without_a_word_is_no_reason_to_read_for_ever() -> None:
    """The newest page says where the log ends."""
    cursor, tail = begun(2, 5), Tail(top=2)
    assert cursor.next(tail) is None
    assert cursor.fetched(page(2, 2)) == []
    assert cursor.next(tail) == ()


def test_a_position_before_the_beginning_is_judged_by_the_log() -> None:
    """What the ring alone cannot vouch for is not taken for good."""
    tail = Tail(top=9, held=3)
    assert [LogCursor(Cursor("e", seq)).held_by(tail) for seq in (5, 6, 9, 10)] == [
        False,
        True,
        True,
        False,
    ]
    assert not LogCursor(Cursor("f", 7)).held_by(tail)
    cursor = LogCursor(Cursor("e", 3))
    cursor.begin(page(0, 0, top=9, oldest=5), 1)
    assert cursor.end == "trimmed"


class Interleavings(RuleBasedStateMachine):
    """A log that grows, is trimmed and begins anew, a tail that hears of it late, a reader that takes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.life, self.top, self.oldest = 0, 3, 1
        self.tail = Tail("e0", 3, 3)
        self.tail.life = 0
        self.cursor = LogCursor(Cursor("e0", 0))
        self.cursor.begin(page(0, 0, top=3, epoch="e0"), 0)
        self.given = 0
        self.reading = False
        self.reason: str | None = None

    @rule(count=st.integers(1, 4), heard=st.booleans())
    def grow(self, count: int, heard: bool) -> None:
        self.top += count
        if heard:
            self.hear(2)

    @rule(held=st.integers(0, 6))
    def hear(self, held: int) -> None:
        self.tail.epoch, self.tail.top, self.tail.held = (
            f"e{self.life}",
            self.top,
            min(held, self.top),
        )
        self.tail.life = self.life

    @rule(left=st.integers(1, 8))
    def trim(self, left: int) -> None:
        self.oldest = max(self.oldest, self.top - left + 1)

    @precondition(lambda self: self.life < 2)
    @rule(rarely=st.integers(0, 5))
    def lose(self, rarely: int) -> None:
        if rarely == 0:
            self.life, self.top, self.oldest = self.life + 1, 0, 1

    @rule()
    def pull(self) -> None:
        found = self.cursor.next(self.tail)
        self.reading = found is None
        self.take(list(found or ()))

    @precondition(lambda self: self.reading)
    @rule(limit=st.integers(1, 3))
    def read(self, limit: int) -> None:
        self.reading = False
        served = self.life == 0 and self.oldest - 1 <= self.given <= self.top
        listed = entries(self.given + 1, min(self.top, self.given + limit)) if served else []
        self.take(
            list(self.cursor.fetched(Page(f"e{self.life}", self.oldest, self.top, None, listed)))
        )

    @rule()
    def beat(self) -> None:
        if self.cursor.confirm(page(0, 0, top=self.top, oldest=self.oldest, epoch=f"e{self.life}")):
            assert (self.life, self.given) == (0, self.top)

    def take(self, found: list[Entry]) -> None:
        assert [entry.seq for entry in found] == list(
            range(self.given + 1, self.given + 1 + len(found))
        )
        if found:
            self.given = found[-1].seq
            self.cursor.passed(self.given)

    @invariant()
    def it_ends_only_for_a_reason(self) -> None:
        if self.cursor.end is not None and self.reason is None:
            self.reason = self.cursor.end
            assert self.reason == ("epoch" if self.life else "trimmed")
        assert self.cursor.end == self.reason


Interleavings.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
test_every_interleaving = Interleavings.TestCase
