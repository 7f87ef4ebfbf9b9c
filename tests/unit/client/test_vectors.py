"""The vectors of whole conversations; tests/js/vectors.test.mjs runs them with tokenwire.js."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tokenwire.client.transcript import LiveMessage, Transcript, after_close
from tokenwire.config.settings import ROOT

FOLDER = Path(ROOT / "protocol" / "vectors" / "conversations")
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted(FOLDER.glob("*.json"))
    for case in json.loads(path.read_text("utf-8"))["cases"]
]


def value_of(message: LiveMessage, name: str) -> Any:
    """As the wire has it: parts as their layout."""
    return [part.view() for part in message.parts] if name == "parts" else getattr(message, name)


@pytest.mark.parametrize("case", CASES)
def test_vector(case: dict[str, Any]) -> None:
    """Each step is taken, or asks for the rows again; then the messages are those of the vector."""
    held = Transcript()
    held.load(case["start"])
    for number, step in enumerate(case["steps"]):
        match step:
            case {"event": event}:
                assert held.apply(event) is (number != case.get("resync_at"))
            case {"load": snapshot}:
                held.load(snapshot)
            case {"older": page}:
                held.prepend(page)
            case {"forked": seq}:
                held.forked(seq)
            case {"live": True}:
                held.release()
    assert [message.id for message in held.messages] == [row["id"] for row in case["messages"]]
    for message, expected in zip(held.messages, case["messages"], strict=True):
        assert {name: value_of(message, name) for name in expected} == expected
    assert held.conversation["title"] == case.get("title")


CLOSES = [
    pytest.param(case, id=case["name"])
    for path in sorted((FOLDER.parent / "closes").glob("*.json"))
    for case in json.loads(path.read_text("utf-8"))["cases"]
]


@pytest.mark.parametrize("case", CLOSES)
def test_a_close(case: dict[str, Any]) -> None:
    """What follows, and a random part of the longest wait."""
    for failures, longest in case["longest_ms"].items():
        for chance in (0.0, 0.5, 1.0):
            step = after_close(case["code"], int(failures), partial(float, chance))
            assert (step.then, step.delay_seconds * 1000) == (case["then"], chance * longest)


def test_there_are_vectors() -> None:
    """Each file is a rule, each name is said once."""
    rules = [json.loads(path.read_text("utf-8")) for path in FOLDER.glob("*.json")]
    assert all(rule["rule"] and rule["cases"] for rule in rules)
    assert len({case.id for case in CASES}) == len(CASES) >= 40
    assert len({case.id for case in CLOSES}) == len(CLOSES) >= 20
