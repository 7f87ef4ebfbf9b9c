"""Pure: estimates what the requests of one answer cost, and limits them.

Every further request is billed for the whole conversation again. A request is counted when it
begins, by an estimate, because a killed worker reports nothing. The provider's report corrects the
estimate. So does a request that was not answered at all. Attaching to a run is free.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenwire.config.terms import AnswerTerms
from tokenwire.providers.base import HistoryMessage, ProviderError, Request
from tokenwire.providers.history import (
    Attachment,
    CallPart,
    Kept,
    KeptPart,
    ReasoningPart,
    ResultPart,
    TextPart,
)
from tokenwire.worker.attempt.usage import json_chars, sent_chars, tokens


class BudgetExhausted(ProviderError):
    """The answer has used up its requests or its input tokens."""


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
    """The bill of one request: its number among those of the answer (from 1), and input tokens.

    `asked`: tokens in the request. `before`: tokens billed for earlier ones. `cost`: what this
    request adds.
    """

    number: int
    asked: int
    before: int
    cost: int

    @classmethod
    def of(cls, request: Request, earlier: int, noted: int | None) -> "Bill":
        """The bill of a request. `earlier`: the number of requests before it; `noted`: their bill.

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
        """Tokens billed so far if the provider accepts the request."""
        return self.before + self.cost

    def settled(self, reported: int | None, *, answered: bool) -> int:
        """Tokens billed after the request: as reported, or estimated if the answer had begun."""
        if not self.cost or not (answered or reported is not None):
            return self.before
        return self.before + (reported if reported is not None else self.cost)

    def following(self, request: Request, reported: int | None) -> "Bill":
        """The bill of another request, after this one was answered."""
        return Bill.of(request, self.number, self.settled(reported, answered=True))


def _billed_before(asked: int, earlier: int, noted: int | None) -> int:
    """The noted tokens. A first request without a note counts as much as this request."""
    if noted is not None:
        return noted
    return asked if earlier else 0


def _chars(request: Request) -> int:
    """Characters of everything that is sent: history, tools, the schema of the answer."""
    tools = sum(
        len(tool.name) + len(tool.description) + json_chars(tool.parameters)
        for tool in request.tools
    )
    sent = (value for message in request.messages for value in _sent(message))
    return sent_chars(sent) + tools + json_chars(request.schema)


def _sent(message: HistoryMessage) -> Iterator[Any]:
    """What a message sends: texts, and kept values. `closing` estimates the same from a row."""
    for part in message.parts:
        match part:
            case TextPart(text, citations):
                yield text
                yield from (item.value for item in citations)
            case CallPart(name=name, input=text, kept=kept):
                yield from (name, text)
                if kept is not None:
                    yield kept.value
            case ResultPart(name=name, text=text):
                yield from (name, text)
            case (
                KeptPart(value=value)
                | ReasoningPart(kept=Kept(value=value))
                | Attachment(kept=Kept(value=value))
            ):
                yield value
