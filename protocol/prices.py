"""Pure: what tokens cost.

Amounts are whole nanos: billionths of the prices' currency. A request is rounded once, so the cost
of an answer, of a day and of a user are exact sums of their requests. Rejected: floats, whose sums
depend on the order; decimals in SQL, which SQLite adds up as floats.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NANOS: Final = 1_000_000_000
"""Of one unit of the currency."""
_MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Prices:
    """Nanos per million tokens. `input_excludes_cached`, `output_excludes_reasoning`: how the
    provider counts.
    """

    input: int
    output: int
    cached: int
    written: int
    input_excludes_cached: bool = False
    output_excludes_reasoning: bool = False

    def cost(self, counts: Mapping[str, int]) -> int:
        """The nanos of these tokens: fields of `UsageDelta`. A missing count is 0."""
        cached, written = counts.get("cached_tokens", 0), counts.get("cache_write_tokens", 0)
        plain, made = counts.get("input_tokens", 0), counts.get("output_tokens", 0)
        if not self.input_excludes_cached:
            plain = max(0, plain - cached - written)
        if self.output_excludes_reasoning:
            made += counts.get("reasoning_tokens", 0)
        total = plain * self.input + cached * self.cached + written * self.written
        return (total + made * self.output + _MILLION // 2) // _MILLION
