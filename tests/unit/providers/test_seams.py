"""The seam: echoed prefixes, repeated white space, overlaps. Text that is merely similar stays."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.providers.stitching import stitch
from tokenwire.providers.seams import Seam

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
    """In one piece and in single characters."""
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
        ("ok, home 🎈 c", "🎈 carried on", "ok, home 🎈 carried on"),
        ("so far 🎈", "🎈 and on", "so far 🎈 and on"),
        ("call (f", "(foo)", "call (foo)"),
        ("one, t", ", two", "one, two"),
        ("say “no", "“no” twice", "say “no” twice"),
        ("我喜欢猫和狗", "猫和狗都好", "我喜欢猫和狗都好"),
        ("多谢", "谢你", "多谢谢你"),
        ("好。", "。", "好。。"),
        ("Wait.", ".. what?", "Wait... what?"),
        ("a **", "**b**", "a ****b**"),
        ("the 👩‍🔬", "🔬 lab", "the 👩‍🔬🔬 lab"),
    ],
)
def test_after_a_turn(held: str, new: str, whole: str) -> None:
    """Overlaps of whole words or of some length are dropped; a chance match inside a word is
    not.
    """
    assert stitch("turn", held, new) == whole
    seam = Seam("turn", held)
    assert held + "".join(seam.push(character) for character in new) + seam.end() == whole


STORY = " ".join(f"{number} little birds sat on wire {number * 7 % 31}." for number in range(200))
"""About 6,000 characters without repetition."""


LENGTHS = (30, 399, 400, 401, 1000, 1999, 2000, 2001, 5000)


@pytest.mark.parametrize(
    ("rung", "length"),
    [("turn", 1), ("turn", 5), *(("turn", n) for n in LENGTHS), *(("prefix", n) for n in LENGTHS)],
)
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_model_that_starts_over_does_not_double_the_answer(
    rung: Any, length: int, step: int
) -> None:
    """At any length and in any pieces. A prefix shorter than an echo may well come twice."""
    held, seam = STORY[:length], Seam(rung, STORY[:length])
    new = "".join(seam.push(STORY[i : i + step]) for i in range(0, len(STORY), step)) + seam.end()
    assert (held + new, seam.over) == (STORY, False)


def test_a_start_over_without_the_white_space_at_the_beginning() -> None:
    """A model that is asked again rarely begins with the same empty lines."""
    held, seam = "\n\n" + STORY[:3000], Seam("turn", "\n\n" + STORY[:3000])
    assert (
        held + "".join(seam.push(character) for character in STORY) + seam.end(),
        seam.over,
    ) == ("\n\n" + STORY, False)


@pytest.mark.parametrize("back", [9, 100, 399, 401, 1500])
def test_a_model_that_repeats_the_end_of_its_prompt(back: int) -> None:
    """A sentence or a page."""
    assert stitch("turn", STORY[:3000], STORY[3000 - back :]) == STORY


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_model_that_starts_over_in_other_words(step: int) -> None:
    """The new text replaces the old one; nothing is doubled."""
    held, new = STORY[:3000], STORY[:500] + "And then it was night."
    seam = Seam("turn", held)
    given = "".join(seam.push(new[i : i + step]) for i in range(0, len(new), step)) + seam.end()
    assert (given, seam.over) == (new, True)
    assert stitch("turn", held, new) == new


def test_a_short_common_beginning_is_no_start_over() -> None:
    """Some equal words after a whole line are a coincidence; `test_openings.py` has the limits."""
    held = STORY[:3000].rpartition(".")[0] + ".\n\n"
    assert stitch("turn", held, STORY[:50] + " and so on") == held + STORY[:50] + " and so on"


@pytest.mark.parametrize("finished", [True, False])
def test_a_start_over_that_ends_within_the_held_text(finished: bool) -> None:
    """It adds nothing, whether it was cut or is all that the model sends."""
    seam = Seam("turn", STORY[:3000])
    assert seam.push(STORY[:700]) == ""
    assert (seam.end(finished=finished), seam.over) == ("", False)


def test_an_echo_that_is_cut_short_is_not_an_answer() -> None:
    """A break within the echo adds nothing."""
    seam = Seam("prefix", LONG)
    assert seam.push(LONG[:25]) == ""
    assert seam.end(finished=False) == ""


def test_text_is_sent_at_once_when_it_is_no_echo() -> None:
    """It is held back only while it could be a repetition."""
    seam = Seam("prefix", LONG)
    assert seam.push("And") == "And"
    assert seam.settled


WORDS = st.lists(
    st.sampled_from(["the", "cat", "a", "mat", " ", "\n", "é", "🦉", ".", "sat on"]), max_size=12
).map(" ".join)


@given(
    st.sampled_from(["prefix", "turn"]),
    WORDS,
    WORDS,
    st.booleans(),
    st.booleans(),
    st.integers(1, 7),
)
def test_cuts_do_not_matter_and_nothing_held_is_lost(
    rung: Any, held: str, new: str, stripped: bool, echoes: bool, step: int
) -> None:
    """However the new text is cut, the result is the same: the old text stays, or the new one is
    whole.
    """
    whole = stitch(rung, held, new, stripped=stripped, echoes=echoes)
    seam = Seam(rung, held, stripped=stripped, echoes=echoes)
    given = "".join(seam.push(new[i : i + step]) for i in range(0, len(new), step)) + seam.end()
    assert whole == (given if seam.over else held + given)
    assert new.endswith(given)
    assert not seam.over or given == new


@pytest.mark.parametrize("rung", ["prefix", "turn"])
def test_a_long_echo_in_small_pieces_is_compared_once(rung: Any) -> None:
    """Comparing everything with each piece took a worker a minute for four megabytes."""
    held = "".join(f"{number} " for number in range(600_000)).strip()
    spent = []
    for _ in range(3):
        seam = Seam(rung, held)
        seam.push(held[:-40_000])
        began = time.process_time()
        given = [
            seam.push(held[start : start + 20])
            for start in range(len(held) - 40_000, len(held), 20)
        ]
        spent.append(time.process_time() - began)
        assert "".join(given) == ""
        assert "".join((seam.push(" and on"), seam.push(" x"), seam.end())) == " and on x"
    assert min(spent) < 0.25
