"""An answer has a longest length, whatever it is made of: there it is cut, and ends as `length`."""

from collections.abc import Callable
from itertools import count

import pytest

from tests.answers import held
from tests.steps import steps
from tokenwire.config.terms import AnswerTerms
from tokenwire.protocol import events
from tokenwire.protocol.fold import Part
from tokenwire.providers import base
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.sizes import PART_COST
from tokenwire.worker.resume.continuation import Held

LIMIT = 1000


def begun(before: Held | None = None, limit: int = LIMIT) -> Draft:
    return Draft(before or held(), 1, terms=AnswerTerms.model_construct(max_answer_bytes=limit))


def told(draft: Draft) -> list[events.AnyEvent]:
    """All that waits, acknowledged."""
    batch = list(draft.batch())
    draft.acknowledged(len(batch))
    return batch


@pytest.mark.parametrize(("piece", "kept"), [("x", 1000), ("é", 500), ("🎈", 250)])
def test_text_is_cut_between_two_characters(piece: str, kept: int) -> None:
    """Bytes are counted, characters are shown; nothing more is taken, and the reason is ours."""
    draft = begun()
    draft.take([base.TextDelta(piece * 300)] * 5)
    assert draft.at_limit
    draft.take([base.TextDelta("more"), base.SourceDelta("https://e.org"), base.Finish("stop")])
    draft.flush()
    told(draft)
    assert (draft.answer.content, draft.finish_reason()) == (piece * kept, "length")
    assert not told(draft)


def test_an_answer_of_exactly_the_limit_is_whole() -> None:
    """Its own end counts."""
    draft = begun()
    draft.take([base.TextDelta("x" * 600), base.ReasoningDelta("y" * 400), base.Finish("stop")])
    assert not draft.at_limit
    assert draft.finish_reason() == "stop"


def test_what_viewers_hold_already_counts() -> None:
    """A retry continues the count, including other attempts' calls; after a withdrawal of
    everything it starts anew.
    """
    before = held("x" * 300, "y" * 300)
    fields = {"id": "c", "name": "f", "state": "proposed"}
    before.answer.add(Part("tool_call", fields, text="z" * 100))
    draft = begun(before)
    draft.take([base.TextDelta("a" * 500)])
    told(draft)
    names = sum(map(len, fields.values()))
    assert len(draft.answer.content) == 300 + LIMIT - 600 - 100 - PART_COST - names
    anew = begun(held("x" * 900))
    anew.take([base.Restart(), base.TextDelta("a" * 900)])
    assert not anew.at_limit
    assert begun(held("x" * 2000)).at_limit is False, "found out with the first piece"


def test_arguments_count_before_their_call_is_whole() -> None:
    """A call that was cut off is told with what there is of it, as one that nobody can execute."""
    draft = begun()
    draft.take(
        [
            base.TextDelta("Look: "),
            base.ToolCallStart(0, "c", "f"),
            *[base.ToolCallArguments(0, '{"a":1}' + " " * 100)] * 10,
        ]
    )
    draft.take([base.ToolCallEnd(0)])
    told(draft)
    call = draft.answer.parts[-1]
    assert (call.fields["id"], call.fields["state"]) == ("c", "invalid")
    assert call.text.startswith('{"a":1}')
    assert (draft.at_limit, draft.finish_reason()) == (True, "length")


ENDLESS: dict[str, Callable[[int], list[base.Delta]]] = {
    "text": lambda _: [base.TextDelta("x")],
    "reasoning": lambda _: [base.ReasoningDelta("x")],
    "refusals": lambda _: [base.RefusalDelta("x")],
    "sources": lambda at: [base.SourceDelta(f"https://e.org/{at}")],
    "calls": lambda at: [base.ToolCallStart(at, "c", "f"), base.ToolCallEnd(at)],
    "calls without an end": lambda at: [base.ToolCallStart(at, "c", "f")],
    "items": lambda _: [base.KeptDelta("d", "k", {})],
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_nothing_goes_on_for_ever(kind: str) -> None:
    """Whatever an answer consists of, it reaches its end."""
    draft = begun()
    for at in count():
        draft.take(ENDLESS[kind](at))
        if draft.at_limit:
            break
        assert at <= LIMIT
    told(draft)
    assert at <= LIMIT // (1 if kind in ("text", "reasoning", "refusals") else PART_COST)
    assert not any(part.streams_input for part in draft.answer.parts)


@pytest.mark.parametrize("kind", ENDLESS)
def test_twice_as_much_is_twice_the_work(kind: str) -> None:
    """Counted in lines that run."""

    def taken(count: int) -> None:
        draft = begun(limit=10**9)
        for at in range(count):
            draft.take(ENDLESS[kind](at))
            if at % 10 == 0:
                told(draft)

    few, many = steps(lambda: taken(200)), steps(lambda: taken(400))
    assert few > 200
    assert many < 2.3 * few


@pytest.mark.parametrize("kind", ["sources", "calls", "text"])
def test_all_that_waits_counts_as_waiting(kind: str) -> None:
    """A provider is not read further while much is waiting for the log; afterwards nothing is left
    over.
    """
    draft = begun(limit=10**6)
    before = 0
    for at in range(20):
        draft.take(ENDLESS[kind](at))
        assert draft.pending_chars > before
        before = draft.pending_chars
    told(draft)
    assert draft.pending_chars == 0
