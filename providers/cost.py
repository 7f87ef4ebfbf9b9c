"""Pure: the cost of an answer from the catalogue's prices; None if a price or a count is missing.

Providers count differently: Anthropic's input excludes cached tokens, Gemini's and xAI's output
excludes reasoning. Prices are per million tokens; `options` of an entry may hold `cached_price` and
`cache_write_price`. Cached tokens without their own price cost the same as others.
"""

from collections.abc import Mapping

from tokenwire.providers.base import UsageDelta
from tokenwire.providers.spec import ModelSpec, Preset

_MILLION = 1_000_000


def cost(usage: UsageDelta, spec: ModelSpec, preset: Preset) -> float | None:
    """The cost, in the currency of the prices."""
    if None in (spec.input_price, spec.output_price, usage.input_tokens, usage.output_tokens):
        return None
    api = spec.api or preset.api
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    plain = (usage.input_tokens or 0) - (0 if api == "anthropic.messages" else cached + written)
    thought = (usage.reasoning_tokens or 0) if _excludes_reasoning(api, preset) else 0
    prices = _prices(spec)
    total = plain * prices["input"] + cached * prices["cached"] + written * prices["written"]
    return (total + ((usage.output_tokens or 0) + thought) * prices["output"]) / _MILLION


def _excludes_reasoning(api: str, preset: Preset) -> bool:
    return api == "gemini.generateContent" or bool(
        preset.quirks.get("output_excludes_reasoning") and api == "openai.chat"
    )


def _prices(spec: ModelSpec) -> Mapping[str, float]:
    price = spec.input_price or 0.0
    options = spec.options
    return {
        "input": price,
        "cached": options.get("cached_price", price),
        "written": options.get("cache_write_price", price),
        "output": spec.output_price or 0.0,
    }
