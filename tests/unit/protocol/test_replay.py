"""protocol/replay.py by example: the events that are sent (test_histories.py: any)."""

from typing import Any

import pytest

from tokenwire.protocol.events import (
    AnyEvent,
    Cancelled,
    Chunk,
    Error,
    PartEvent,
    Reasoning,
    Reset,
    ToolInput,
)
from tokenwire.protocol.fold import Answer, Part, from_view
from tokenwire.protocol.replay import begins, catch_up


def answer_of(*parts: Part) -> Answer:
    answer = Answer("m1")
    for part in parts:
        answer.add(part)
    return answer


def text(content: str, **fields: Any) -> Part:
    return Part("text", fields, text=content)


def call(state: str, content: str = "", **fields: Any) -> Part:
    return Part("tool_call", {"id": "c1", "name": "n", "state": state, **fields}, text=content)


def source(at: int, url: str = "x") -> Part:
    return Part("source", {"at": at, "url": url})


STEP = Part("step", {})
NAMED = {"type": "tool_call", "id": "c1", "name": "n", "state": "streaming"}


@pytest.mark.parametrize(
    ("have", "want", "needed"),
    [
        pytest.param([text("He")], [text("Hello")], [Chunk("m1", 2, 2, "llo", 0)], id="the rest"),
        pytest.param([text("Hello")], [text("Hello")], [], id="nothing"),
        pytest.param(
            [text("He"), STEP],
            [text("Hello"), STEP],
            [
                Reset("m1", 2, 2, 0, 1),
                Chunk("m1", 2, 2, "llo", 0),
                PartEvent("m1", 2, 1, {"type": "step"}),
            ],
            id="a text that has ended was longer",
        ),
        pytest.param(
            [text("a"), source(1), STEP],
            [text("ab"), source(1), STEP],
            [
                Reset("m1", 2, 1, 0, 2),
                Chunk("m1", 2, 1, "b", 0),
                PartEvent("m1", 2, 2, {"type": "step"}),
            ],
            id="inner parts of it stay",
        ),
        pytest.param(
            [STEP, text("Hello")],
            [STEP, text("Hi")],
            [Reset("m1", 2, 0, 0, 1), Chunk("m1", 2, 0, "Hi", 1)],
            id="other words",
        ),
        pytest.param(
            [text("a"), source(1)],
            [text("a"), source(1, "y")],
            [
                Reset("m1", 2, 1, 0, 1),
                PartEvent("m1", 2, 1, {"type": "source", "at": 1, "url": "y"}),
            ],
            id="another source",
        ),
        pytest.param(
            [],
            [text("abc"), source(1), source(3)],
            [
                Chunk("m1", 2, 0, "a", 0),
                PartEvent("m1", 2, 1, {"type": "source", "at": 1, "url": "x"}),
                Chunk("m1", 2, 1, "bc", 0),
                PartEvent("m1", 2, 2, {"type": "source", "at": 3, "url": "x"}),
            ],
            id="a text is split at what stands inside it",
        ),
        pytest.param(
            [],
            [text("ab"), Part("reasoning", {"at": 1}, text="Hm"), STEP],
            [
                Chunk("m1", 2, 0, "a", 0),
                PartEvent("m1", 2, 1, {"type": "reasoning", "at": 1}),
                Reasoning("m1", 2, 0, "Hm", 1),
                Chunk("m1", 2, 1, "b", 0),
                PartEvent("m1", 2, 2, {"type": "step"}),
            ],
            id="reasoning inside a text",
        ),
        pytest.param(
            [],
            [call("done", "{}", result=4)],
            [
                PartEvent("m1", 2, 0, NAMED),
                ToolInput("m1", 2, 0, "{}", 0),
                PartEvent("m1", 2, 0, {"type": "tool_call", "state": "done", "result": 4}),
            ],
            id="a call streams before it is complete",
        ),
        pytest.param(
            [call("streaming", "{")],
            [call("proposed", "{}")],
            [
                ToolInput("m1", 2, 1, "}", 0),
                PartEvent("m1", 2, 0, {"type": "tool_call", "state": "proposed"}),
            ],
            id="the rest of a call",
        ),
        pytest.param(
            [call("proposed", "{}", error="e", n=1)],
            [call("proposed", "{}", n=True)],
            [PartEvent("m1", 2, 0, {"type": "tool_call", "n": True, "error": None})],
            id="fields, of which 1 is not true",
        ),
        pytest.param(
            [],
            [text(""), Part("reasoning", {}), Part("reasoning", {"dropped": True}, text="a")],
            [
                PartEvent("m1", 2, 0, {"type": "text"}),
                PartEvent("m1", 2, 1, {"type": "reasoning"}),
                PartEvent("m1", 2, 2, {"type": "reasoning", "dropped": True}),
                Reasoning("m1", 2, 0, "a", 2),
            ],
            id="parts without text",
        ),
        pytest.param(
            [],
            [text("a👋b"), source(2), source(99), Part("source", {"at": "?"}), source(1)],
            [
                Chunk("m1", 2, 0, "a", 0),
                PartEvent("m1", 2, 1, {"type": "source", "at": 2, "url": "x"}),
                Chunk("m1", 2, 1, "👋b", 0),
                PartEvent("m1", 2, 2, {"type": "source", "at": 99, "url": "x"}),
                PartEvent("m1", 2, 3, {"type": "source", "at": "?"}),
                PartEvent("m1", 2, 4, {"type": "source", "at": 1, "url": "x"}),
            ],
            id="places that are none split no character and lose no text",
        ),
    ],
)
def test_the_events_that_are_sent(
    have: list[Part], want: list[Part], needed: list[AnyEvent]
) -> None:
    """The fewest events that give the wanted answer."""
    held, wanted = answer_of(*have).copy(), answer_of(*want).copy()
    assert catch_up(held, wanted, 2) == needed
    assert begins(held, wanted) == (not any(isinstance(event, Reset) for event in needed))
    for event in needed:
        held.apply(event)
    assert (held.layout(), held.content) == (wanted.layout(), wanted.content)


def test_an_unknown_reader_starts_over() -> None:
    """It may hold anything."""
    assert catch_up(None, answer_of(text("a")), 2)[0] == Reset("m1", 2, 0, 0, 0)


def test_a_row_shorter_than_its_end() -> None:
    """Damage does not keep an answer from ending."""
    _, ended = catch_up(None, from_view({"id": "m1", "status": "error"}), 2)
    assert isinstance(ended, Error)
    assert ended.code == "internal_error"
    _, ended = catch_up(None, from_view({"id": "m1", "status": "cancelled"}), 2)
    assert isinstance(ended, Cancelled)
