"""providers.cost and protocol.prices: what tokens cost, exactly."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol.prices import NANOS, Prices
from tokenwire.providers.base import UsageDelta, counts_of
from tokenwire.providers.catalogue import CatalogueError, parse
from tokenwire.providers.cost import prices_of
from tokenwire.providers.spec import ModelSpec

PRICED = {"input_price": 1.0, "output_price": 10.0}
"""Nanos of a token: 1000 and 10,000."""


@pytest.mark.parametrize(
    ("provider", "usage", "options", "thousands"),
    [
        ("openai", UsageDelta(1000, 100), {}, 1000 + 1000),
        (
            "openai",
            UsageDelta(1000, 100, cached_tokens=400),
            {"cached_price": 0.5},
            600 + 200 + 1000,
        ),
        ("openai", UsageDelta(1000, 100, cached_tokens=400), {}, 1000 + 1000),
        ("openai", UsageDelta(1000, 100, reasoning_tokens=90), {}, 1000 + 1000),
        ("openai", UsageDelta(100, None, cached_tokens=400), {}, 400),
        (
            "anthropic",
            UsageDelta(1000, 100, cached_tokens=400, cache_write_tokens=10),
            {"cached_price": 0.1, "cache_write_price": 2},
            1000 + 40 + 20 + 1000,
        ),
        ("gemini", UsageDelta(1000, 100, reasoning_tokens=90), {}, 1000 + 1900),
        ("gemini", UsageDelta(1000, 100), {}, 1000 + 1000),
        ("xai", UsageDelta(1000, 100, reasoning_tokens=90), {}, 1000 + 1900),
        ("a plugin's", UsageDelta(1000, 100, reasoning_tokens=90), {}, 1000 + 1000),
    ],
)
def test_tokens_are_billed_as_their_provider_counts_them(
    provider: str, usage: UsageDelta, options: dict[str, Any], thousands: int
) -> None:
    spec = ModelSpec("m", provider, "m", options=options, **PRICED)  # type: ignore[arg-type]
    prices = prices_of(spec)
    assert prices is not None
    assert prices.cost(counts_of(usage)) == thousands * 1000


def test_an_entry_with_one_price_has_none() -> None:
    """The cost is never guessed."""
    assert prices_of(ModelSpec("m", "openai", "m", input_price=1.0)) is None
    assert prices_of(ModelSpec("m", "openai", "m", output_price=1.0)) is None


def test_fractions_of_a_nano_are_rounded() -> None:
    """Once for a request, half up."""
    prices = Prices(input=500_000, output=0, cached=0, written=0)
    assert [prices.cost({"input_tokens": n}) for n in (1, 2, 3)] == [1, 1, 2]


@given(st.integers(0, 10**6 * NANOS))
def test_a_cost_survives_as_a_number(nanos: int) -> None:
    """On the wire it is a number of the currency. A million units keep each nano."""
    assert round(nanos / NANOS * NANOS) == nanos


@pytest.mark.parametrize("price", ["0.1", -1, True, float("inf"), float("nan"), None])
@pytest.mark.parametrize("name", ["cached_price", "cache_write_price"])
def test_a_price_that_is_none_is_refused_at_the_start(name: str, price: Any) -> None:
    """Rather than at the first report of tokens."""
    entry = {"provider": "demo", "options": {name: price}}
    with pytest.raises(CatalogueError) as refused:
        parse({"default": "m", "models": {"m": entry}}, {})
    assert f"m: options: {name}: must be a number of at least 0" in str(refused.value)
