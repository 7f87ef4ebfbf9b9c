"""Pure: adds up the token counts that an answer's requests have reported, or estimates them.

Usage is what a user pays, so it is the sum over all requests of the answer, whichever worker sent
them. The reports are saved with each checkpoint (`messages.reported`), so they survive the death of
a worker. Every process that ends answers imports this module, web included.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tokenwire.protocol import events
from tokenwire.protocol.prices import NANOS, Prices

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
"""Numbers of `UsageDelta`, and `cost` in nanos; without it, if any of the requests has no price."""


@dataclass(frozen=True, slots=True)
class Reported:
    """Reported tokens. `now`: of the present request so far. `before`: of all earlier ones. `lost`:
    an estimate for requests whose worker or connection was lost before they reported. `prices`: of
    the present request.
    """

    before: UsageFields = field(default_factory=dict)
    now: UsageFields = field(default_factory=dict)
    lost: UsageFields = field(default_factory=dict)
    prices: Prices | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any] | None) -> "Reported":
        """From the column `reported` of a row."""
        if not stored:
            return cls()
        prices = stored.get("prices")
        fields = {name: stored.get(name, {}) for name in ("before", "now", "lost")}
        return cls(**fields, prices=prices and Prices(**prices))

    def stored(self) -> dict[str, Any] | None:
        """For the column `reported` of a row. None: nothing was reported, and nothing is priced."""
        found: dict[str, Any] = {"before": dict(self.before), "now": dict(self.now)}
        if self.lost:
            found["lost"] = dict(self.lost)
        if self.prices:
            found["prices"] = asdict(self.prices)
        return found if any(found.values()) else None

    def corrected(self, usage: UsageFields) -> "Reported":
        """Take a report of the present request. Each number replaces its earlier value."""
        return replace(self, now=self._priced({**self.now, **usage}))

    def next_request(self) -> "Reported":
        """Another request begins. Attaching to a run is none: it may report the same again."""
        return replace(self, before=_sum(self.before, self.now), now={})

    def with_lost(self, billed: int, units: int) -> "Reported":
        """Count requests that reported nothing. `billed`: input tokens of all requests, reported or
        estimated; `units`: characters of text that they brought.
        """
        asked = billed - sum(found.get("input_tokens", 0) for found in (self.before, self.lost))
        if asked <= 0:
            return self
        estimate = self._priced({"input_tokens": asked, "output_tokens": tokens(units)})
        return replace(self, lost=_sum(self.lost, estimate))

    def total(self) -> events.Usage | None:
        """The sum, as on the wire. None if input or output tokens were never reported."""
        found = _sum(self.before, self.now)
        return (
            _usage(_sum(found, self.lost), estimated=bool(self.lost))
            if _has_tokens(found)
            else None
        )

    def with_estimate(self, asked: int, chars: int) -> events.Usage | None:
        """The sum for an answer that was stopped before its request reported, with an estimate.

        `asked`: tokens in that request. `chars`: characters of its answer so far.
        """
        if _has_tokens(self.now):
            return self.total()
        estimate = self._priced({"input_tokens": asked, "output_tokens": tokens(chars)})
        return _usage(_sum(_sum(self.before, self.lost), estimate), estimated=True)

    def _priced(self, fields: UsageFields) -> UsageFields:
        return {**fields, "cost": self.prices.cost(fields)} if self.prices else fields


def _sum(first: UsageFields, second: UsageFields) -> dict[str, int]:
    found = {name: first.get(name, 0) + second.get(name, 0) for name in {**first, **second}}
    if first and second and not ("cost" in first and "cost" in second):
        found.pop("cost", None)
    return found


def _has_tokens(fields: UsageFields) -> bool:
    return "input_tokens" in fields or "output_tokens" in fields


def _usage(fields: UsageFields, *, estimated: bool) -> events.Usage:
    return events.Usage(
        fields.get("input_tokens", 0),
        fields.get("output_tokens", 0),
        fields.get("cached_tokens"),
        fields.get("reasoning_tokens"),
        fields.get("cache_write_tokens"),
        fields["cost"] / NANOS if "cost" in fields else None,
        estimated=estimated,
    )
