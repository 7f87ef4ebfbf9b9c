"""protocol/rewind.py over any history, and where it must not believe the log."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol.histories import HISTORIES, ID, written
from tests.unit.protocol.test_histories import AnyHistory, folded, seen
from tokenwire.protocol import events
from tokenwire.protocol.events import AnyEvent, Chunk, Complete, PartEvent, Reasoning
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.rewind import rewound

PLACES = st.integers(0, 10**6)
TEXTS: list[AnyEvent] = [
    Chunk(ID, 1, 0, "One", 0),
    PartEvent(ID, 1, 1, {"type": "reasoning", "at": 3}),
    Reasoning(ID, 1, 0, "hm", 1),
    Chunk(ID, 1, 3, " two 👍", 0),
    Reasoning(ID, 1, 2, ", so", 1),
    Chunk(ID, 1, 10, ".", 0),
]
"""Two texts that grow in turn: both have begun after three events."""


def of(told: list[AnyEvent], place: int, looks_back: int = 64) -> Answer | None:
    """The answer of these events as it was after the first `place` of them."""
    return rewound(folded(told), told[max(0, place - looks_back) : place], told[place:])


@given(HISTORIES, PLACES, PLACES)
def test_what_is_given_is_what_the_log_gives(history: AnyHistory, first: int, last: int) -> None:
    """Wherever the row is, and however far the look reaches back."""
    log = written(history).events
    place = first % (len(log) + 1)
    if (earlier := of(log[: place + last % (len(log) + 1 - place)], place)) is not None:
        assert seen(earlier) == seen(folded(log[:place]))


@pytest.mark.parametrize("place", range(7))
@pytest.mark.parametrize("ends", [False, True])
def test_texts_are_cut_where_they_ended(place: int, ends: bool) -> None:
    """Also behind the end of the answer. What had not begun is not known to have been nothing."""
    proof = folded(TEXTS).proof()
    end = Complete(ID, 1, "stop", None, *proof[:2], [], *proof[2:])
    earlier = of([*TEXTS, end] if ends else TEXTS, place)
    if place < 3:
        assert earlier is None
    else:
        assert earlier is not None
        assert (seen(earlier), earlier.status) == (seen(folded(TEXTS[:place])), "streaming")


def test_other_events_cannot_be_undone() -> None:
    """What they replaced is not known."""
    opened = PartEvent(ID, 1, 2, {"type": "step"})
    for event in (opened, events.Start(ID, 2, "m"), events.Reset(ID, 1, 3, 2, 2)):
        assert of([*TEXTS[:3], event], 3) is None
    assert of([*TEXTS[:3], opened], 4) is not None


def test_a_log_with_a_hole_is_not_believed() -> None:
    """The last event before and the first one behind must agree; nor is a log that repeats
    itself.
    """
    whole = folded(TEXTS)
    assert rewound(whole, TEXTS[:3], TEXTS[3:]) is not None
    assert rewound(whole, TEXTS[:3], TEXTS[5:]) is None
    assert rewound(whole, TEXTS[:3], [TEXTS[0], *TEXTS[3:]]) is None
    assert rewound(whole, [*TEXTS[:3], events.Reset(ID, 1, 3, 2, 2)], TEXTS[3:]) is None
    assert rewound(whole, [*TEXTS[:3], PartEvent(ID, 1, 0, {"type": "text"})], TEXTS[3:]) is None


def test_a_call_that_the_end_cut_off_is_not_guessed() -> None:
    """It was streaming or invalid."""
    told: list[AnyEvent] = [
        PartEvent(ID, 1, 0, {"type": "tool_call", "id": "c", "name": "n", "state": "streaming"}),
        events.ToolInput(ID, 1, 0, "{", 0),
    ]
    proof = folded(told).proof()
    end = Complete(ID, 1, "stop", None, *proof[:2], [], *proof[2:])
    assert of([*told, end], 2) is None
    assert of([*told, end], 3) is not None
