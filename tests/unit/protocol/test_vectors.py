"""The vectors of the fold; tests/js/vectors.test.mjs runs them in Node."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tokenwire.config.settings import ROOT
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer, Hole, Unproven, from_view
from tokenwire.protocol.replay import catch_up

FOLDER = Path(ROOT / "protocol" / "vectors")
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(FOLDER.glob("*.json"))
    for case in json.loads(path.read_text("utf-8"))["cases"]
]


def value_of(answer: Answer, name: str) -> Any:
    """A field that a vector names, in wire form: parts as their layout."""
    return answer.layout() if name == "parts" else msgspec.to_builtins(getattr(answer, name))


@pytest.mark.parametrize("case", CASES)
def test_vector(case: dict[str, Any]) -> None:
    """Each event is applied, is a hole, or is not proven; the end is as the vector says."""
    answer = from_view(case["row"]) if "row" in case else Answer("m1")
    for number, event in enumerate(case["events"]):
        _, decoded = events.decode(json.dumps(event).encode())
        if number == case.get("hole_at"):
            with pytest.raises(Hole):
                answer.apply(decoded)  # type: ignore[arg-type]  # holes have known types
        elif number == case.get("unproven_at"):
            with pytest.raises(Unproven):
                answer.apply(decoded)  # type: ignore[arg-type]
        elif decoded is not None:
            answer.apply(decoded)
    assert {name: value_of(answer, name) for name in case["message"]} == case["message"]
    again = Answer("m1")
    for replayed in catch_up(None, answer, 1):
        again.apply(replayed)
    assert again.layout() == case["message"]["parts"]


def test_there_are_vectors() -> None:
    """Each file is a rule; names are unique."""
    rules = [json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")]
    assert all(rule["rule"] and rule["cases"] for rule in rules)
    assert len({case.id for case in CASES}) == len(CASES) >= 100
