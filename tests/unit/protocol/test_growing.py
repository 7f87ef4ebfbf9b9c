"""protocol/growing.py: what is out stays out, and is never given twice."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol.growing import Growing, Hole, Withdrawn
from tokenwire.protocol.text import utf16_length

TEXTS = st.text(st.sampled_from("ab é👍\n"), max_size=30)


@given(TEXTS, st.lists(st.integers(0, 30), max_size=8), st.integers(1, 5))
def test_pieces_do_not_depend_on_how_the_text_came(text: str, cuts: list[int], size: int) -> None:
    """However it is cut on the way in: the same full pieces, then the same rest."""
    growing, out = Growing(), list[str]()
    places = sorted({min(place, len(text)) for place in cuts} | {0, len(text)})
    for start, end in itertools.pairwise(places):
        growing.put(utf16_length(text[:start]), text[start:end])
        out += growing.take(size, 99)
    assert out == [
        text[start : start + size] for start in range(0, len(text) - len(text) % size, size)
    ]
    assert growing.take_rest() == text[len("".join(out)) :]
    assert growing.out == growing.whole == text


def test_of_a_piece_that_is_there_the_overlap_is_dropped() -> None:
    """Offsets count UTF-16 units."""
    growing = Growing("a👍")
    growing.put(1, "👍b")
    growing.put(0, "a")
    assert growing.whole == "a👍b"


def test_a_piece_beyond_the_end_is_a_hole() -> None:
    """So is a reset that keeps more than there is."""
    with pytest.raises(Hole):
        Growing("ab").put(3, "c")
    with pytest.raises(Hole):
        Growing("ab").keep(3)


def test_a_reset_that_says_the_same_again_is_not_noticed() -> None:
    """What was out is not given again, and what follows is."""
    growing = Growing("Hello")
    assert growing.take_rest() == "Hello"
    growing.keep(0)
    growing.put(0, "Hel")
    assert growing.take_rest() == ""
    growing.put(3, "lo you")
    assert growing.take_rest() == " you"


def test_a_reset_of_what_is_not_out_is_not_noticed() -> None:
    """Nobody has seen it."""
    growing = Growing("Hello you")
    assert growing.take(5, 9) == ["Hello"]
    growing.keep(5)
    growing.put(5, ", all")
    assert growing.take_rest() == ", all"


@pytest.mark.parametrize(
    "change", [lambda it: it.put(2, "y"), lambda it: it.become("Hey"), lambda it: it.finish("He")]
)
def test_other_words_than_those_that_are_out_are_told(change: object) -> None:
    """The text is taken over all the same, so that one can begin again with it."""
    growing = Growing("Hello")
    growing.take_rest()
    growing.keep(2)
    with pytest.raises(Withdrawn):
        change(growing)  # type: ignore[operator]
    assert growing.out == "Hello"
    assert growing.whole in ("Hey", "He")


def test_a_row_may_be_behind_what_was_seen() -> None:
    """It is only for good that the text may not be shorter than what is out."""
    growing = Growing("Hello")
    growing.take_rest()
    growing.become("He")
    growing.put(2, "llo!")
    assert growing.take_rest() == "!"
