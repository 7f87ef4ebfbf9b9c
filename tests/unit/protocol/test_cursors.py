"""protocol.cursors: `epoch:seq`, written and parsed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol.cursors import Cursor, parse


@given(st.from_regex(r"[0-9A-Za-z]{1,32}", fullmatch=True), st.integers(0, 2**53 - 1))
def test_a_cursor_is_read_as_it_was_written(epoch: str, seq: int) -> None:
    """`str` and `parse` are inverses."""
    assert parse(str(Cursor(epoch, seq))) == Cursor(epoch, seq)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "k3f9",
        "k3f9:",
        ":5",
        "k3f9:-1",
        "k3f9:05",
        "k3f9:5 ",
        " k3f9:5",
        "k3f9:5\n",
        "k3f9:٣",
        "k:3:5",
        "k3f9:1e3",
        "k" * 33 + ":1",
        "k:" + "9" * 17,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Whatever a client sends in place of a cursor."""
    with pytest.raises(ValueError, match="a cursor looks like"):
        parse(text)
