"""What was said in a conversation stays out of the log, whatever a provider puts into its
errors.
"""

import pytest

from tokenwire.providers.base import Continuation, HistoryMessage, Kept, Request, Unavailable
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    KeptPart,
    ReasoningPart,
    ResultPart,
    TextPart,
)
from tokenwire.worker.discretion import MAX_CHARS, remove_quotes, texts_in

REQUEST = Request(
    [
        HistoryMessage("system", "Be kind to everyone."),
        HistoryMessage(
            "user",
            [
                Attachment("image/png", url="https://x.example/me.png", name="my own face.png"),
                TextPart("What is the matter with me?"),
            ],
        ),
        HistoryMessage(
            "assistant",
            [
                ReasoningPart("", Kept("gemini", "thought", {"text": "a thought of the model"})),
                KeptPart("gemini", "odd", {"text": "an odd thing of the model"}),
                TextPart(
                    "Nothing at all.", [Kept("gemini", "citation", {"text": "a very big book"})]
                ),
                CallPart("1", "look", '{"query": "all about matter"}'),
                CallPart("2", "look", "not even an object"),
            ],
        ),
        HistoryMessage("tool", [ResultPart("1", "look", "matter is everything")]),
    ],
    continuation=Continuation("turn", "You are perfectly fine."),
)


@pytest.mark.parametrize(
    "quoted",
    [
        "Be kind to everyone.",
        "What is the matter with me?",
        "https://x.example/me.png",
        "my own face.png",
        "all about matter",
        "not even an object",
        "a thought of the model",
        "an odd thing of the model",
        "Nothing at all.",
        "a very big book",
        "matter is everything",
        "You are perfectly fine.",
    ],
)
def test_whatever_a_request_holds(quoted: str) -> None:
    """In the words of the error, in its code, and as operators see it."""
    error = Unavailable(f"refused: {quoted}", code=quoted, status=500)
    remove_quotes(error, texts_in(REQUEST))
    assert quoted not in f"{error!r} {error} {error.message} {error.code}"
    assert (error.message[:9], error.status) == ("refused: ", 500)


def test_what_an_error_says_of_itself_stays() -> None:
    """Cut to what is worth reading."""
    error = Unavailable("the model is overloaded" + "!" * 5000, code="overloaded")
    remove_quotes(error, texts_in(REQUEST))
    assert (error.message, error.code) == (
        ("the model is overloaded" + "!" * 5000)[:MAX_CHARS],
        "overloaded",
    )


def test_other_exceptions_are_left_alone() -> None:
    """They are no provider's words."""
    error = ValueError("What is the matter with me?")
    remove_quotes(error, texts_in(REQUEST))
    assert str(error) == "What is the matter with me?"
