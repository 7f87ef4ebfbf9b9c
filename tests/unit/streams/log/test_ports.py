"""streams.log.ports: how cursors of this and earlier epochs relate to a log."""

import pytest

from tokenwire.protocol.cursors import Cursor
from tokenwire.streams.log.ports import Page

LOG = Page("new", 3, 9, None, [], {"old": 6, "older": 4})


@pytest.mark.parametrize(
    ("epoch", "shared"), [("new", 9), ("old", 6), ("older", 4), ("other", None), (None, None)]
)
def test_what_a_log_shares_with_an_epoch(epoch: str | None, shared: int | None) -> None:
    """All of its own epoch, an earlier epoch up to the fork, and nothing of an unknown one."""
    assert LOG.shared(epoch) == shared


@pytest.mark.parametrize(
    ("epoch", "seq", "reached"),
    [
        ("new", 7, 7),
        ("new", 12, 12),  # a row that was read after this state
        ("old", 5, 5),
        ("old", 6, 6),
        ("old", 8, 6),  # the rest is not part of this log
        ("older", 8, 4),
        ("other", 8, 0),
        (None, 0, 0),
    ],
)
def test_the_cursor_of_a_row_ends_at_the_fork(epoch: str | None, seq: int, reached: int) -> None:
    """Up to the row's own seq, but never beyond a fork."""
    assert LOG.reached(epoch, seq) == reached


@pytest.mark.parametrize(
    ("floor", "seq", "running"),
    [(None, 9, False), (5, 5, True), (0, 0, True), (9, 9, True), (12, 9, True)],
)
def test_where_a_reader_of_rows_begins(floor: int | None, seq: int, running: bool) -> None:
    """At the top, or at the checkpoint of a running answer."""
    page = Page("new", 1, 9, floor)
    assert (page.cursor, page.running) == (Cursor("new", seq), running)
