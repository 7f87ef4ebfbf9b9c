"""Quotations of another text are removed from a text."""

import json
import time

import pytest

from tokenwire.providers.quotes import MAX_SOURCE_CHARS, without_quotes

SAID = 'My PIN is 4711,\n\n and my "dear" friend lives in Köln 🚉 by C:\\new\\table.'


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"bad prompt: {SAID}", "bad prompt: …"),
        (f"{SAID} is bad", "… is bad"),
        (f"bad: <{SAID}>, <{SAID}>!", "bad: <…>, <…>!"),
        (f"bad: {SAID.upper()}", "bad: …"),
        (f"bad: {' '.join(SAID.split())}!", "bad: …!"),
        (f"bad: {json.dumps(SAID)}", 'bad: "…"'),
        (f"bad: {json.dumps(SAID, ensure_ascii=False)}", 'bad: "…"'),
        (f"bad: {json.dumps(json.dumps(SAID))}!", 'bad: "\\"…\\""!'),
        ("bad: dear friend, my pin is 4711", "bad: dear friend, …"),
        ("pin is 4711", "pin is 4711"),
        ("is 4711, and", "…"),
        ("", ""),
        ("nothing of the kind was said by anybody", "nothing of the kind was said by anybody"),
        ("\\" * 3000, "\\" * 3000),
    ],
)
def test_quotations_are_removed(text: str, left: str) -> None:
    """In any case, with any white space, escaped any number of times. A text too short to identify
    stays.
    """
    assert without_quotes(text, ["something else", SAID]) == left


def test_twelve_characters_are_a_quotation_and_eleven_are_not() -> None:
    """On both sides."""
    assert without_quotes("<abcdefghijkl>", ["abcdefghijkl"]) == "<…>"
    assert without_quotes("<abcdefghijk>", ["abcdefghijk"]) == "<abcdefghijk>"
    assert without_quotes("<abcdefghijkl>", ["abcdefghijk", "bcdefghijkl"]) == "<abcdefghijkl>"


@pytest.mark.parametrize(
    "source", ["x" * MAX_SOURCE_CHARS, "\\" * MAX_SOURCE_CHARS, " \n" * (MAX_SOURCE_CHARS // 2)]
)
def test_a_long_source_is_searched_in_bounded_time(source: str) -> None:
    """Processor time with a wide margin; it takes some hundredths of a second."""
    began = time.process_time()
    without_quotes("x" * 1000, [source])
    assert time.process_time() - began < 1.0


def test_nothing_is_compared_with_a_source_that_is_too_long() -> None:
    """And nothing of the text is shown."""
    assert without_quotes("bad: whatever", ["x" * MAX_SOURCE_CHARS, "y"]) == "…"
