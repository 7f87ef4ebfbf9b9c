"""protocol/kept.py: a kept value loses nothing, and no text is stored twice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol.kept import MOST_SEARCHES, SHORTEST, fold_in, fold_out

TEXT = "".join(f"Thought {n}: 👋 é and so on. " for n in range(20))
_names = st.sampled_from(["$text", "$$text", "$$$text", "text", "$", "a"])
_slices = st.tuples(st.integers(0, 300), st.integers(0, 200)).map(lambda at: TEXT[at[0] :][: at[1]])
_numbers = st.lists(st.integers(0, 50), max_size=2)
_halves = st.text(st.sampled_from(["\u6161", "a", "👋", "\udc4b"]), min_size=30, max_size=50)
_leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), _slices, _numbers, _halves)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=20,
)


@given(_values, st.sampled_from([TEXT, TEXT * 2, "", "x" + "\u6161👋" * 50]), st.text())
def test_folding_out_and_in_are_inverses(value: Any, text: str, more: str) -> None:
    """Any JSON value over any text, even a text that has grown since, and through JSON."""
    out = fold_out(value, text)
    assert fold_in(json.loads(json.dumps(out)), text + more) == value


def test_a_part_s_text_is_not_stored_again() -> None:
    """In a block of a provider, the thinking is in the part and only the signature is stored."""
    block = {"type": "thinking", "thinking": TEXT, "signature": "EqQB" * 100}
    out = fold_out(block, "é👋" + TEXT)
    assert out == block | {"thinking": {"$text": [3, len(TEXT) + 20]}}
    assert fold_in(out, "é👋" + TEXT) == block


@pytest.mark.parametrize(("length", "stays"), [(SHORTEST - 1, True), (SHORTEST, False)])
def test_short_strings_stay(length: int, stays: bool) -> None:
    """A reference would be longer."""
    assert (fold_out("x" * length, "x" * 99) == "x" * length) is stays


def test_a_string_between_halves_of_units_is_no_slice() -> None:
    """The text's bytes contain it, but no character begins there."""
    text, string = "\u6100" + "\u6161" * SHORTEST, "\u6161" * SHORTEST
    assert fold_in(fold_out(string, text), text) == string


def test_searches_are_bounded() -> None:
    """Thousands of strings do not search megabytes thousands of times."""
    strings = [f"{n:0{SHORTEST}}" for n in range(MOST_SEARCHES + 50)]
    out = fold_out(strings, "".join(strings))
    assert sum(isinstance(item, str) for item in out) == 50
    assert fold_in(out, "".join(strings)) == strings


@pytest.mark.parametrize("reference", [[0, 6], [5, 1], [9, 3], [-1, 1]])
def test_a_too_short_text_is_an_error(reference: list[int]) -> None:
    """No kept value is better than one with other words."""
    with pytest.raises(ValueError, match="does not hold"):
        fold_in({"$text": reference}, "abc👋")


def test_a_value_that_looks_like_a_reference_stays_a_value() -> None:
    """The provider's own names survive."""
    for value in ({"$text": [0, 1]}, {"$text": "a", "b": 1}, {"$$text": [0, 1]}):
        assert fold_in(fold_out(value, "abc"), "abc") == value
