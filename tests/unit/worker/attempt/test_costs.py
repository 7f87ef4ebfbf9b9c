"""worker.attempt.costs: what the requests of an answer cost, and when they are enough."""

from typing import Any

import pytest

from tokenwire.config.terms import AnswerTerms
from tokenwire.models.parts import whole
from tokenwire.models.tables import Message
from tokenwire.protocol.events import PartEvent
from tokenwire.protocol.fold import Answer
from tokenwire.providers import base
from tokenwire.providers.base import Continuation, HistoryMessage, Kept, Request, Tool
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    KeptPart,
    ReasoningPart,
    ResultPart,
    TextPart,
)
from tokenwire.worker import closing, context
from tokenwire.worker.attempt import costs
from tokenwire.worker.attempt.costs import Bill, is_over_budget
from tokenwire.worker.attempt.parts import PartsTaken
from tokenwire.worker.attempt.usage import sent_chars

ASKED = Request([HistoryMessage("user", "x" * 400)])


@pytest.mark.parametrize(
    ("number", "billed", "cost", "forbidden"),
    [
        (1, 0, 10**9, False),
        (3, 0, 1, False),
        (4, 0, 1, True),
        (4, 0, 0, False),
        (2, 900, 100, False),
        (2, 901, 100, True),
        (2, 5_000, 0, False),
    ],
)
def test_both_bounds_hold_for_every_request_but_the_first(
    number: int, billed: int, cost: int, forbidden: bool
) -> None:
    """And not for what is free."""
    terms = AnswerTerms(max_requests_per_answer=3, max_billed_input_tokens_per_answer=1000)
    assert is_over_budget(terms, number, billed, cost) is forbidden


def test_a_request_is_counted_when_it_begins() -> None:
    """The held text is sent again, too."""
    assert Bill.of(ASKED, 0, None) == Bill(1, 100, 0, 100)
    going_on = Request(ASKED.messages, continuation=Continuation("turn", "y" * 40))
    assert Bill.of(going_on, 2, 70) == Bill(3, 110, 70, 110)
    assert Bill.of(going_on, 2, 70).begun == 180


def test_what_is_sent_beside_the_text_is_counted() -> None:
    """Other values of an answer, tool calls, and the schema are billed like text: here about 40
    characters each.
    """
    value = {"x": "y" * 31}
    thought = ReasoningPart("never sent", Kept("openai.responses", "reasoning", value))
    kept = KeptPart("openai.responses", "web_search_call", value)
    call = CallPart("id", "tool", '{"x": "' + "y" * 27 + '"}')
    message = HistoryMessage("assistant", [thought, kept, TextPart("x" * 40), call])
    tool = Tool("tool", "what it does", {"x": "y" * 15})
    assert Bill.of(Request([message]), 0, None).asked == 10 + 2 * 10 + 10
    assert Bill.of(Request([message], schema={"x": "y" * 31}), 0, None).asked == 50
    assert Bill.of(Request([message], tools=[tool]), 0, None).asked == 50
    result = HistoryMessage("tool", [ResultPart("id", "tool", "y" * 36)])
    assert Bill.of(Request([message, result]), 0, None).asked == 50
    cited = TextPart("x" * 40, [Kept("anthropic.messages", "citation", value)])
    assert Bill.of(Request([HistoryMessage("assistant", [cited])]), 0, None).asked == 20


def test_what_only_the_provider_understands_is_counted_beside_calls_and_files() -> None:
    """It goes back with them."""
    kept = Kept("gemini", "signature", {"x": "y" * 31})
    call = CallPart("id", "tool", '{"x": "' + "y" * 27 + '"}', kept)
    file = Attachment("image/png", b"png", kept=kept)
    assert Bill.of(Request([HistoryMessage("assistant", [call, file])]), 0, None).asked == 30


THOUGHT = "t" * 400


def answer_with_everything(*, signed: bool) -> Answer:
    """Reasoning, text, a call with its result, and an item that is kept."""
    taken = PartsTaken(Answer("m"), 1)
    thought = Kept("d", "thinking", {"thinking": THOUGHT, "signature": "s" * 80})
    deltas: list[base.Delta] = [
        base.ReasoningDelta(THOUGHT),
        base.ReasoningEnd(thought if signed else None),
        base.TextDelta("x" * 300),
        base.ToolCallStart(0, "c", "look_up"),
        base.ToolCallArguments(0, '{"q": "' + "q" * 90 + '"}'),
        base.ToolCallEnd(0, Kept("d", "signature", {"signature": "s" * 70})),
        base.KeptDelta("d", "k", {"v": "v" * 200}),
    ]
    for delta in deltas:
        list(taken.take(delta))
    return taken.answer


@pytest.mark.parametrize("outcome", [{}, {"result": "r" * 500}, {"error": "e" * 500}], ids=str)
@pytest.mark.parametrize("model", ["m", "another"])
@pytest.mark.parametrize("signed", [True, False])
def test_a_process_without_providers_estimates_the_same(
    outcome: dict[str, Any], model: str, signed: bool
) -> None:
    """It reads rows, the worker messages: within the few characters that stand for a text."""
    answer = answer_with_everything(signed=signed)
    [call] = [number for number, part in enumerate(answer.parts) if part.type == "tool_call"]
    answer.apply(PartEvent("m", 1, call, {"type": "tool_call", **outcome}))
    content, reasoning, parts, kept = whole(answer)
    row = Message(
        id="m", conversation_id="c", ordinal=1, role="assistant", status="complete", model="m",
        content=content, reasoning=reasoning, parts=parts, parts_kept=kept,
    )  # fmt: skip
    [message] = context.messages([row], None, {"m": "model"})
    sent = list(costs._sent(message))
    if model != "m":  # another one gets no kept value
        sent = [value for value in sent if isinstance(value, str)]
    estimated = sent_chars(closing._sent(row, model))
    assert sent_chars(sent) > 400
    assert abs(estimated - sent_chars(sent)) < 30


def test_of_a_first_request_that_was_never_heard_of_again_the_worst_is_assumed() -> None:
    """Its worker died: it may have been billed."""
    assert Bill.of(ASKED, 1, None).before == 100


def test_to_attach_is_free() -> None:
    """The run was paid when it was begun, and is no further request."""
    attached = Request(ASKED.messages, continuation=Continuation("attach", "y" * 40, "run", 3))
    assert Bill.of(attached, 1, 100) == Bill(1, 100, 100, 0)
    assert Bill.of(attached, 1, 100).settled(999, answered=True) == 100


@pytest.mark.parametrize(
    ("said", "answered", "settled"),
    [(70, True, 170), (None, True, 200), (None, False, 100), (70, False, 170)],
)
def test_the_end_of_a_request_corrects_the_estimate(
    said: int | None, answered: bool, settled: int
) -> None:
    """By what the provider said; nothing, where it had not answered at all (a 429, a 503)."""
    assert Bill(2, 100, 100, 100).settled(said, answered=answered) == settled


def test_a_request_that_follows_is_the_next_one() -> None:
    """Billed after what the one before has cost."""
    assert Bill.of(ASKED, 0, None).following(ASKED, 70) == Bill(2, 100, 70, 100)
