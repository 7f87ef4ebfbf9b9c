"""Pure: adds up the token counts that an answer's requests have reported, or estimates them.

Usage is what a user pays, so it is the sum over all requests of the answer, whichever worker sent
them. The reports are saved with each checkpoint (`messages.reported`), so they survive the death of
a worker. Every process that ends answers imports this module, web included.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenwire.protocol import events

CHARS_PER_TOKEN = 4


def tokens(chars: int) -> int:
    """The estimated number of tokens of a text of so many characters, rounded up."""
    return -(-chars // CHARS_PER_TOKEN)


def json_chars(value: Any) -> int:
    """The length of a value as JSON, in characters. Empty values are not sent and count 0."""
    return len(json.dumps(value, ensure_ascii=False, default=str)) if value else 0


def sent_chars(values: Iterable[Any]) -> int:
    """The length of what a history sends, in characters. Everything but text is JSON."""
    return sum(len(value) if isinstance(value, str) else json_chars(value) for value in values)


UsageFields = Mapping[str, int]
"""The reported fields of `events.Usage`."""


@dataclass(frozen=True, slots=True)
class Reported:
    """Reported tokens. `now`: of the present request so far. `before`: of all earlier ones."""

    before: UsageFields = field(default_factory=dict)
    now: UsageFields = field(default_factory=dict)

    @classmethod
    def of(cls, stored: Mapping[str, UsageFields] | None) -> "Reported":
        """From the column `reported` of a row."""
        return cls(**stored) if stored else cls()

    def stored(self) -> dict[str, Any] | None:
        """For the column `reported` of a row. None: nothing was reported."""
        return (
            {"before": dict(self.before), "now": dict(self.now)}
            if self.before or self.now
            else None
        )

    def corrected(self, usage: UsageFields) -> "Reported":
        """Take a report of the present request. Each number replaces its earlier value."""
        return Reported(self.before, {**self.now, **usage})

    def next_request(self) -> "Reported":
        """Another request begins. Attaching to a run is none: it may report the same again."""
        return Reported(_sum(self.before, self.now))

    def total(self) -> events.Usage | None:
        """The sum, as on the wire. None if input or output tokens were never reported."""
        return _usage(_sum(self.before, self.now))

    def with_estimate(self, asked: int, chars: int) -> events.Usage | None:
        """The sum for an answer that was stopped before its request reported, with an estimate.

        `asked`: tokens in that request. `chars`: characters of its answer so far.
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
