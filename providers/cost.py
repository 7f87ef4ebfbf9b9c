"""Pure: the prices of a catalogue's entry.

Providers count differently: Anthropic's input excludes cached tokens, Gemini's and xAI's output
excludes reasoning. Prices are per million tokens; `options` of an entry may hold `cached_price` and
`cache_write_price`. Cached tokens without their own price cost the same as others.
"""

from collections.abc import Mapping
from math import inf
from typing import Any

from tokenwire.protocol.prices import NANOS, Prices
from tokenwire.providers.presets import PRESETS
from tokenwire.providers.spec import ModelSpec, Preset


def mistake_in(options: Mapping[str, Any]) -> str | None:
    """What is wrong with the prices among an entry's options."""
    for name in ("cached_price", "cache_write_price"):
        price = options.get(name, 0)
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < inf:
            return f"{name}: must be a number of at least 0"
    return None


def prices_of(spec: ModelSpec) -> Prices | None:
    """The prices of an entry. None: it does not say both."""
    if spec.input_price is None or spec.output_price is None:
        return None
    preset, options = PRESETS.get(spec.provider), spec.options
    api = spec.api or (preset.api if preset else "")
    return Prices(
        input=_nanos(spec.input_price),
        output=_nanos(spec.output_price),
        cached=_nanos(options.get("cached_price", spec.input_price)),
        written=_nanos(options.get("cache_write_price", spec.input_price)),
        input_excludes_cached=api == "anthropic.messages",
        output_excludes_reasoning=_excludes_reasoning(api, preset),
    )


def _nanos(price: float) -> int:
    return round(price * NANOS)


def _excludes_reasoning(api: str, preset: Preset | None) -> bool:
    return api == "gemini.generateContent" or bool(
        preset and preset.quirks.get("output_excludes_reasoning") and api == "openai.chat"
    )
