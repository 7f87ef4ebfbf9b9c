"""web/openai/objects.py: a Response has every key that the public specification asks for (schemas of `llm-comply`)."""

from importlib.resources import files

import pytest
from llm_comply.schema import SpecLoader

from tokenwire.web.openai.objects import Answer, response

SPECIFICATION = str(files("llm_comply") / "specs" / "openresponses.json")
pytestmark = pytest.mark.filterwarnings(
    "ignore:jsonschema.RefResolver"
)  # the suite's own way to read its schemas
USAGE = {"input_tokens": 3, "output_tokens": 5, "estimated": False}


@pytest.mark.parametrize(
    "answer",
    [
        Answer("m", "demo", 1, "queued", asked={"background": True}),
        Answer("m", "demo", 1, "streaming", "Ye"),
        Answer(
            "m",
            "demo",
            1,
            "complete",
            "Yes.",
            "Hm.",
            finish_reason="stop",
            usage=USAGE,
            completed_at=2,
        ),
        Answer(
            "m",
            "demo",
            1,
            "complete",
            "Ye",
            finish_reason="length",
            usage=USAGE,
            asked={"temperature": 0.5, "metadata": {"a": "b"}},
        ),
        Answer(
            "m",
            "demo",
            1,
            "error",
            error={"code": "unavailable", "error": "Away.", "retryable": True},
        ),
        Answer("m", "demo", 1, "cancelled", "Ye"),
    ],
)
def test_a_response_has_every_key_of_the_specification(answer: Answer) -> None:
    """Whatever state it is in."""
    assert SpecLoader(SPECIFICATION).validate(response(answer), "ResponseResource") == []


def test_it_is_completed_when_it_is() -> None:
    """An answer that failed or was stopped never was."""
    ended = Answer("m", "demo", 1, "complete", "Yes.", finish_reason="stop", completed_at=2)
    assert response(ended)["completed_at"] == 2
    assert response(Answer("m", "demo", 1, "cancelled", completed_at=2))["completed_at"] is None
    assert (response(ended)["temperature"], response(ended)["top_p"]) == (1.0, 1.0)
