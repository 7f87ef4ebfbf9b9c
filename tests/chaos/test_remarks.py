"""What counts as a remark that was lost, or answered twice."""

from typing import Any

import pytest

from tests.chaos.checks import Folded
from tests.chaos.remarks import Remark, judge_remark
from tests.chaos.script import script

TEXT = script(50_001, 20)
STEPS = {"parts": [{"type": "text"}, {"type": "step", "message_ids": ["r"]}]}
NEXT = {"row": {"status": "complete", "content": TEXT.text}}
TAKEN = {"row": {"status": "cancelled", "content": ""}, "steers": "m", "reached": 1}


def judged(answer: dict[str, Any], **facts: Any) -> str:
    return " ".join(judge_remark(Remark(TEXT, 0.0, message_id="r", **facts), "m", answer))


def test_taken_in_or_answered() -> None:
    """Either is well."""
    assert judged({}, **NEXT, log=Folded(terminals=[9])) == judged(STEPS, **TAKEN) == ""


@pytest.mark.parametrize(
    ("answer", "facts", "fault"),
    [
        pytest.param({}, {"row": {"status": "queued"}}, "neither", id="stuck"),
        pytest.param({}, {"row": {**NEXT["row"], "content": "e"}}, "neither", id="half an answer"),
        pytest.param(STEPS, NEXT, "answered, and in 1 steps", id="twice"),
        pytest.param({}, {**NEXT, "reached": 1}, "answered, and in", id="the model got it as well"),
        pytest.param({}, TAKEN, "in 0 steps", id="no step"),
        pytest.param({"parts": 2 * STEPS["parts"]}, TAKEN, "in 2 steps", id="two steps"),
        pytest.param(STEPS, {**TAKEN, "reached": None}, "None", id="the model never got it"),
        pytest.param(STEPS, {**TAKEN, **NEXT}, "is complete", id="taken in, and answered"),
        pytest.param(STEPS, {**TAKEN, "steers": "n"}, "taken in by n", id="by another answer"),
        pytest.param({}, {**NEXT, "log": Folded(terminals=[8, 9])}, "2 ends", id="two ends"),
    ],
)
def test_what_is_wrong(answer: dict[str, Any], facts: dict[str, Any], fault: str) -> None:
    """It is reported."""
    assert fault in judged(answer, **facts)
