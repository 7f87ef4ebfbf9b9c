"""providers.collected: deltas become the parts of a message, in order."""

import pytest

from tokenwire.providers.base import (
    Delta,
    Kept,
    ReasoningDelta,
    ReasoningEnd,
    Restart,
    SourceDelta,
    TextDelta,
)
from tokenwire.providers.collected import Collected
from tokenwire.providers.history import HistoryPart, KeptPart, ReasoningPart, TextPart

CITATION = Kept("d", "citation", {"type": "page_location"})
ALONE = KeptPart("d", "citation", CITATION.value)


def parts(*deltas: Delta) -> list[HistoryPart]:
    collected = Collected()
    for delta in deltas:
        collected.add(delta)
    return list(collected.parts)


def test_a_citation_stays_with_the_words_that_it_supports() -> None:
    """The text is cut where they begin; two citations of the same words share them."""
    cited = SourceDelta(cites=(4, 0), kept=CITATION)
    assert parts(TextDelta("It is cold"), cited, cited, TextDelta(".")) == [
        TextPart("It is "),
        TextPart("cold", (CITATION, CITATION)),
        TextPart("."),
    ]


@pytest.mark.parametrize("cites", [(0, 0), (4, 2), None])
def test_a_citation_without_words_at_the_end_stands_alone(cites: tuple[int, int] | None) -> None:
    """No text is empty: providers refuse such a history."""
    found = parts(TextDelta("cold"), SourceDelta(cites=cites, kept=CITATION), TextDelta("."))
    assert found == [TextPart("cold"), ALONE, TextPart(".")]


def test_no_character_is_split() -> None:
    """A citation that begins within one has none of it or all of it."""
    found = parts(TextDelta("a\U0001f388b"), SourceDelta(cites=(2, 0), kept=CITATION))
    assert found == [TextPart("a"), TextPart("\U0001f388b", (CITATION,))]


def test_a_reasoning_may_be_ended_behind_later_parts() -> None:
    """What is kept stays with it; without any reasoning it is a part of its own."""
    thought = Kept("d", "reasoning", {"signature": "s"})
    deltas: list[Delta] = [ReasoningDelta("hm"), TextDelta("a"), ReasoningEnd(thought)]
    assert parts(*deltas) == [ReasoningPart("hm", thought), TextPart("a")]
    assert parts(*deltas, ReasoningEnd(thought))[2:] == [ReasoningPart("", thought)]
    assert parts(*deltas[:2], Restart(), ReasoningEnd(thought)) == [ReasoningPart("", thought)]
