"""Pure: what the requests of one answer have reported of their tokens, or an estimate of it.

Usage is what a user pays, so it is the sum over all requests of the answer, whichever worker sent
them. What they reported is saved with each checkpoint (`messages.reported`) and survives a worker
that is killed. Whoever ends answers may load this module, web too.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tokenwire.protocol import events

CHARS_PER_TOKEN = 4


def tokens(chars: int) -> int:
    """About so many tokens, rounded up."""
    return -(-chars // CHARS_PER_TOKEN)


def json_chars(value: Any) -> int:
    """How long a value is as JSON; what is absent or empty is not sent."""
    return len(json.dumps(value, ensure_ascii=False, default=str)) if value else 0


class SentMessage(NamedTuple):
    """What a message of the history sends. `calls`: name and arguments of each."""

    text: str
    kept: Iterable[Any]
    calls: Iterable[tuple[str, Any]] = ()


def history_chars(messages: Iterable[SentMessage]) -> int:
    """How long a history is as it is sent: everything but text as JSON."""
    return sum(
        len(text)
        + sum(map(json_chars, kept))
        + sum(len(name) + json_chars(arguments) for name, arguments in calls)
        for text, kept, calls in messages
    )


UsageFields = Mapping[str, int]
"""Fields of `events.Usage`: those that were said."""


@dataclass(frozen=True, slots=True)
class Reported:
    """`now`: what the request under way has reported so far; `before`: the sum of all before it."""

    before: UsageFields = field(default_factory=dict)
    now: UsageFields = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, UsageFields] | None) -> "Reported":
        """As a row stores it."""
        return cls(**stored) if stored else cls()

    def stored(self) -> dict[str, Any] | None:
        """For the row; None: nothing was reported."""
        return (
            {"before": dict(self.before), "now": dict(self.now)}
            if self.before or self.now
            else None
        )

    def corrected(self, usage: UsageFields) -> "Reported":
        """The request under way reports: each number replaces what it reported before."""
        return Reported(self.before, {**self.now, **usage})

    def next_request(self) -> "Reported":
        """Another request begins. An attached run is no other: it may report the same once more."""
        return Reported(_sum(self.before, self.now))

    def total(self) -> events.Usage | None:
        """The sum, as on the wire; None where nobody said how many tokens went in or came out."""
        return _usage(_sum(self.before, self.now))

    def with_estimate(self, asked: int, chars: int) -> events.Usage | None:
        """The same, for an answer that was stopped before its request reported: with an estimate.

        `asked`: tokens of that request; `chars`: what has come of it.
        """
        if _usage(self.now) is not None:
            return self.total()
        return _usage(
            _sum(self.before, {"input_tokens": asked, "output_tokens": tokens(chars)}),
            estimated=True,
        )


def _sum(first: UsageFields, second: UsageFields) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}


def _usage(fields: UsageFields, *, estimated: bool = False) -> events.Usage | None:
    if not ("input_tokens" in fields or "output_tokens" in fields):
        return None
    cached, reasoning = fields.get("cached_tokens"), fields.get("reasoning_tokens")
    return events.Usage(
        fields.get("input_tokens", 0),
        fields.get("output_tokens", 0),
        cached,
        reasoning,
        estimated=estimated,
    )
