"""Pure: what the requests of one answer cost, and when they are enough.

Every further request is billed the whole conversation again. A request is counted when it begins,
by an estimate: a worker that is killed reports nothing. What the provider reports corrects the
estimate, and so does that it answered nothing at all. To attach to a run is free.
"""

from dataclasses import dataclass
from typing import Any

from tokenwire.config.terms import AnswerTerms
from tokenwire.providers.base import HistoryMessage, ProviderError, Request
from tokenwire.providers.history import (
    CallPart,
    Kept,
    KeptPart,
    ReasoningPart,
    ResultPart,
    TextPart,
)
from tokenwire.worker.attempt.usage import SentMessage, history_chars, json_chars, tokens


class BudgetExhausted(ProviderError):
    """The answer has had all the requests, or was billed all the input tokens, that it may."""


def is_over_budget(terms: AnswerTerms, number: int, billed: int, cost: int) -> bool:
    """Whether request `number` (from 1) is too many, after `billed` tokens, for `cost` more.

    The first request is never refused, and neither is one that costs nothing.
    """
    if number <= 1 or cost <= 0:
        return False
    too_many = number > terms.max_requests_per_answer
    return too_many or billed + cost > terms.max_billed_input_tokens_per_answer


@dataclass(frozen=True, slots=True)
class Bill:
    """Of one request: its number among those of the answer (from 1), and input tokens.

    `asked` are in the request, `before` were billed for earlier ones, `cost` is what this one adds.
    """

    number: int
    asked: int
    before: int
    cost: int

    @classmethod
    def of(cls, request: Request, earlier: int, noted: int | None) -> "Bill":
        """`earlier`: requests of the answer before this one; `noted`: what they were billed.

        `noted` is None after the first request: its cost is not saved.
        """
        going_on = request.continuation
        attaches = going_on is not None and going_on.rung == "attach"
        held = 0 if going_on is None or attaches else len(going_on.text)
        asked = tokens(_chars(request) + held)
        before = _billed_before(asked, earlier, noted)
        return cls(earlier + (not attaches), asked, before, 0 if attaches else asked)

    @property
    def begun(self) -> int:
        """Billed so far, if the provider takes the request."""
        return self.before + self.cost

    def settled(self, reported: int | None, *, answered: bool) -> int:
        """Billed after the request: as `reported`, or estimated if the provider began to answer."""
        if not self.cost or not (answered or reported is not None):
            return self.before
        return self.before + (reported if reported is not None else self.cost)

    def following(self, request: Request, reported: int | None) -> "Bill":
        """Of another request, after this one was answered."""
        return Bill.of(request, self.number, self.settled(reported, answered=True))


def _billed_before(asked: int, earlier: int, noted: int | None) -> int:
    """As noted. A first request that was not noted asked about as much as this one does."""
    if noted is not None:
        return noted
    return asked if earlier else 0


def _chars(request: Request) -> int:
    """Of all that is sent: the history, tools, the schema of the answer."""
    tools = sum(
        len(tool.name) + len(tool.description) + json_chars(tool.parameters)
        for tool in request.tools
    )
    return history_chars(map(_sent, request.messages)) + tools + json_chars(request.schema)


def _sent(message: HistoryMessage) -> SentMessage:
    """What is kept of a part is sent for it, its text where nothing is."""
    texts: list[str] = []
    kept: list[Any] = []
    for part in message.parts:
        match part:
            case TextPart(text, citations):
                texts.append(text)
                kept += [item.value for item in citations]
            case KeptPart(value=value) | ReasoningPart(kept=Kept(value=value)):
                kept.append(value)
            case CallPart(name=name, input=text) | ResultPart(name=name, text=text):
                texts += [name, text]
    return SentMessage("".join(texts), kept)
