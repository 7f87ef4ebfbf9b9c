"""The seam: echoed prefixes, white space sent again, overlaps; and wording that merely resembles is left alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.seams import Seam, stitch

LONG = "The quick brown fox jumps over the lazy dog"


@pytest.mark.parametrize(
    ("held", "new", "options", "whole"),
    [
        (LONG, " and runs", {}, LONG + " and runs"),
        (LONG, LONG + " and runs", {}, LONG + " and runs"),
        (LONG + " ", LONG + " and runs", {}, LONG + " and runs"),
        (LONG, "", {}, LONG),
        ("ha", "haha", {}, "hahaha"),
        ("ha", "haha", {"echoes": True}, "haha"),
        ("Hello \n", " \nWorld", {"stripped": True}, "Hello \nWorld"),
        ("Hello \n", "World", {"stripped": True}, "Hello \nWorld"),
        ("Hello\n", "\n\nWorld", {"stripped": True}, "Hello\n\nWorld"),
        ("Hello", " World", {"stripped": True}, "Hello World"),
        ("Hello ", "\n\nWorld", {"stripped": True}, "Hello \n\nWorld"),
        ("Hello ", " World", {}, "Hello  World"),
    ],
)
def test_after_a_prefix(held: str, new: str, options: dict[str, Any], whole: str) -> None:
    """In one piece and in single characters alike."""
    assert stitch("prefix", held, new, **options) == whole
    seam = Seam("prefix", held, **options)
    assert held + "".join(seam.push(character) for character in new) + seam.end() == whole


@pytest.mark.parametrize(
    ("held", "new", "whole"),
    [
        ("The cat sat on the mat", " and slept", "The cat sat on the mat and slept"),
        ("The cat sat on the mat", "the mat and slept", "The cat sat on the mat and slept"),
        ("The cat sat on the mat", "sat on the mat and slept", "The cat sat on the mat and slept"),
        ("The cat sat on the ma", "mat and slept", "The cat sat on the mat and slept"),
        ("The cat sat on the m", "at and slept", "The cat sat on the mat and slept"),
        ("The cat sat on the mat ", " and slept", "The cat sat on the mat and slept"),
        ("The cat sat on the mat ", "the mat and slept", "The cat sat on the mat and slept"),
        ("The cat sat.", "The cat slept.", "The cat sat.The cat slept."),
        ("banana", "nana is short", "banananana is short"),
        ("Fine", "", "Fine"),
    ],
)
def test_after_a_turn(held: str, new: str, whole: str) -> None:
    """Overlaps of whole words or of some length are dropped; a chance resemblance inside of a word is not."""
    assert stitch("turn", held, new) == whole
    seam = Seam("turn", held)
    assert held + "".join(seam.push(character) for character in new) + seam.end() == whole


def test_an_echo_that_is_cut_short_is_not_an_answer() -> None:
    """A break in the middle of the echo adds nothing."""
    seam = Seam("prefix", LONG)
    assert seam.push(LONG[:25]) == ""
    assert seam.end(finished=False) == ""


def test_text_flows_at_once_when_it_is_no_echo() -> None:
    """Nothing is held back longer than it could be a repetition."""
    seam = Seam("prefix", LONG)
    assert seam.push("And") == "And"
    assert seam.settled


WORDS = st.lists(st.sampled_from(["the", "cat", "a", "mat", " ", "\n", "é", "🦉", ".", "sat on"]), max_size=12).map(" ".join)


@given(st.sampled_from(["prefix", "turn"]), WORDS, WORDS, st.booleans(), st.booleans(), st.integers(1, 7))
def test_cuts_do_not_matter_and_nothing_held_is_lost(rung: Any, held: str, new: str, stripped: bool, echoes: bool, step: int) -> None:
    """However the new text arrives, the outcome is the same; the held text stays, and only a beginning of the new one is dropped."""
    whole = stitch(rung, held, new, stripped=stripped, echoes=echoes)
    assert whole.startswith(held)
    assert new.endswith(whole[len(held) :])
    seam = Seam(rung, held, stripped=stripped, echoes=echoes)
    assert held + "".join(seam.push(new[i : i + step]) for i in range(0, len(new), step)) + seam.end() == whole
