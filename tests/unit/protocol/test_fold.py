"""protocol/fold.py: what its users need beside the rules of the vectors."""

import pytest

from tokenwire.protocol import events
from tokenwire.protocol.fold import NOTHING, Answer, Part, Unproven, from_view


def answer_of(*parts: Part) -> Answer:
    answer = Answer("m1")
    for part in parts:
        answer.add(part)
    return answer


def test_what_events_touch() -> None:
    """A piece and a `part` touch their part; repetitions and events without a part touch
    nothing.
    """
    answer = Answer("m1")
    assert answer.apply(events.Start("m1", 1, "demo")) == NOTHING
    assert answer.apply(events.Chunk("m1", 1, 0, "Hel", 0)) == range(1)
    assert answer.apply(events.Chunk("m1", 1, 0, "Hel", 0)) == NOTHING
    assert answer.apply(events.Chunk("m1", 1, 3, "", 0)) == NOTHING
    assert answer.apply(events.PartEvent("m1", 1, 1, {"type": "tool_call"})) == range(1, 2)
    assert answer.apply(events.Cancelled("m1", 1, "u", None, 3, 99, 2, 9), believe=True) == NOTHING


def test_a_reset_touches_what_it_cuts_and_all_behind() -> None:
    """A repeated reset cuts the text that has grown since."""
    answer = answer_of(Part("step", {}), Part("text", {}, text="Hello"), Part("source", {"at": 5}))
    assert answer.copy().apply(events.Reset("m1", 1, 5, 0, 2)) == range(2, 3)
    assert answer.copy().apply(events.Reset("m1", 1, 3, 0, 3)) == range(1, 3)
    assert answer.copy().apply(events.Reset("m1", 1, 3, 0, 2)) == range(1, 3)
    assert answer.copy().apply(events.Reset("m1", 1, 5, 0, 3)) == NOTHING


def test_growing_parts() -> None:
    """At most one text and one reasoning."""
    answer = answer_of(Part("reasoning", {}), Part("text", {}, text="a"))
    assert (answer.open_text, answer.open_reasoning) == (1, None)
    answer.add(Part("reasoning", {"at": 1}))
    assert (answer.open_text, answer.open_reasoning) == (1, 2)
    answer.add(Part("step", {}))
    assert (answer.open_text, answer.open_reasoning) == (None, None)
    answer.reset(3)
    assert (answer.open_text, answer.open_reasoning) == (1, 2)


def test_kept_values_are_copied_and_not_shown() -> None:
    """They go along with a copy, and are in no layout."""
    answer = answer_of(Part("reasoning", {}, text="Hm"))
    answer.parts[0].kept = {"dialect": "d", "value": {"signature": "s"}}
    assert answer.layout() == [{"type": "reasoning", "length": 2}]
    assert answer.copy().parts[0].kept == answer.parts[0].kept


def test_a_row_with_unreadable_usage() -> None:
    """It is still an answer."""
    assert from_view({"id": "m1", "content": "a", "usage": {"input_tokens": "x"}}).usage is None
    read = from_view({"id": "m1", "usage": {"input_tokens": 1, "output_tokens": 2}})
    assert read.usage == events.Usage(1, 2)
    assert from_view({"id": "m1", "content": "a", "parts": {"type": "text"}}).content == "a"


def test_an_unproven_end_may_be_accepted() -> None:
    """By a reader that has read the same row again."""
    answer = Answer("m1")
    answer.apply(events.Chunk("m1", 1, 0, "Hello", 0))
    end = events.Cancelled("m1", 1, "u1", None, 9, 9, 0, 0)
    with pytest.raises(Unproven):
        answer.apply(end)
    answer.apply(end, believe=True)
    assert (answer.status, answer.by) == ("cancelled", "u1")
