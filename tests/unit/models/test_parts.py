"""models/parts.py: an answer is stored and read again; damage costs no text."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.protocol.histories import HISTORIES, written
from tests.unit.protocol.test_histories import folded, seen
from tokenwire.models.parts import (
    StoredPart,
    Whole,
    answer_of,
    assembled,
    layout_of,
    whole,
)
from tokenwire.protocol.fold import Answer, Part

CALL = {"id": "c1", "name": "n", "arguments": {"a": "é"}, "status": "pending"}


def row(columns: Whole, **more: Any) -> Any:
    """A row with these columns."""
    other = {
        "id": "m1",
        "status": "streaming",
        "attempt": 1,
        "model": None,
        "finish_reason": None,
        "tool_calls": None,
    }
    ends = dict.fromkeys(("error", "usage", "seams", "cancel_by"))
    return SimpleNamespace(**ends | other | columns._asdict() | more)


def answer(*parts: Part) -> Answer:
    made = Answer("m1")
    for part in parts:
        made.add(part)
    return made


def texts(found: Answer) -> list[tuple[str, str]]:
    return [(part.type, part.text) for part in found.parts]


@given(HISTORIES, st.sets(st.integers(0, 30)))
def test_an_ended_answer_is_read_as_it_was_stored(history: Any, kept: set[int]) -> None:
    """Parts, texts, fields, kept values; readers see everything but the last."""
    ended = folded(written((history[0], None)).events)
    for number in kept & set(range(len(ended.parts))):
        ended.parts[number].kept = {"dialect": "d", "kind": "k", "value": [number]}
    columns = whole(ended)
    found = answer_of(row(columns))
    assert seen(found) == seen(ended) | {"waits": False}
    assert [part.kept for part in found.parts] == [part.kept for part in ended.parts]
    assert layout_of(row(columns)) == ended.layout()


@pytest.mark.parametrize(
    ("parts", "is_default"),
    [
        ([], True),
        ([Part("text", {}, text="a")], True),
        ([Part("reasoning", {}, text="a"), Part("text", {}, text="👋")], True),
        ([Part("text", {}, text="a"), Part("reasoning", {}, text="a")], False),
        ([Part("text", {}, text="a"), Part("text", {}, text="a")], False),
        ([Part("reasoning", {}), Part("text", {}, text="a")], False),
        ([Part("text", {"x": 1}, text="a")], False),
    ],
)
def test_plain_answers_have_no_layout(parts: list[Part], is_default: bool) -> None:
    """Reasoning, then text: every row of a plain chat."""
    assert (whole(answer(*parts)).parts is None) == is_default


def test_calls_of_the_previous_version_are_parts() -> None:
    """They follow the text. A row with a layout has them there."""
    mine = [CALL, CALL | {"arguments": "{oops", "status": "error"}]
    old = row(Whole("a", "b", None, None), tool_calls=mine)
    found = answer_of(old)
    assert texts(found) == [
        ("reasoning", "b"),
        ("text", "a"),
        ("tool_call", '{"a": "é"}'),
        ("tool_call", "{oops"),
    ]
    assert [part.fields.get("state") for part in found.parts[2:]] == ["proposed", "invalid"]
    assert layout_of(old) == found.layout()
    new = row(Whole("a", "", [{"type": "text", "length": 1}], None), tool_calls=mine)
    assert texts(answer_of(new)) == [("text", "a")]


@pytest.mark.parametrize(
    "layout",
    [
        [],
        [None, 3],
        [{"type": "text", "length": -1}],
        [{"type": "text", "length": 99}],
        [{"type": "text"}, {"type": "reasoning", "length": "2"}],
        [{"type": "reasoning", "length": 1}, {"length": 1}],
    ],
)
def test_a_damaged_layout_costs_no_text(layout: list[Any]) -> None:
    """And numbers do not shift: an unreadable part keeps its own."""
    found = answer_of(row(Whole("text👋", "thought", layout, None)))
    assert (found.content, found.reasoning) == ("text👋", "thought")
    assert len(found.parts) >= len(layout)


def test_kept_values_of_missing_parts() -> None:
    """They are dropped."""
    found = answer_of(row(Whole("a", "", None, [{"part": 7, "dialect": "d", "value": 1}])))
    assert [part.kept for part in found.parts] == [None]


def test_a_missing_part_keeps_its_number() -> None:
    """Its place says so, and a text that grows around it still may."""
    rows = [StoredPart(2, "source", None, {"url": "u", "at": 1}, None)]
    found = assembled(3, (0, "ab"), (None, ""), rows)
    assert [part.type for part in found.parts] == ["text", "unknown", "source"]
    assert found.parts[1].fields == {"dropped": True, "at": 2}
    assert found.open_text == 0
    behind = assembled(3, (2, "b"), (None, ""), [StoredPart(1, "step", None, None, None)])
    assert [part.type for part in behind.parts] == ["unknown", "step", "text"]
    assert behind.open_text == 2


@pytest.mark.parametrize("number", [None, 7])
def test_text_without_a_part_is_a_part(number: int | None) -> None:
    """A version without parts wrote it, or the row is damaged."""
    rows = [StoredPart(0, "text", "a", None, None)]
    found = assembled(1, (number, "b"), (number, "c"), rows)
    assert texts(found) == [("text", "a"), ("reasoning", "c"), ("text", "b")]


def test_the_text_of_a_growing_part_is_the_message_s() -> None:
    """Its own row holds the other fields."""
    rows = [StoredPart(0, "text", "old", {"x": 1}, {"dialect": "d", "value": 1})]
    found = assembled(1, (0, "new"), (None, ""), rows)
    assert (texts(found), found.parts[0].fields) == ([("text", "new")], {"x": 1})
    assert found.parts[0].kept == {"dialect": "d", "value": 1}


def test_a_value_that_the_database_refuses() -> None:
    """The text stays, and the part is marked."""
    part = StoredPart(1, "reasoning", "Hm", {"at": 1}, {"dialect": "d"})
    assert part.text_only() == StoredPart(1, "reasoning", "Hm", {"dropped": True, "at": 1}, None)
    broken = StoredPart(1, "data", None, {"at": "\0", "data": "\0"}, None)
    assert broken.text_only() == StoredPart(1, "data", None, {"dropped": True}, None)
    plain = StoredPart(1, "reasoning", "Hm", None, None)
    assert plain.text_only() == plain
