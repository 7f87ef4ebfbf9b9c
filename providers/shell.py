"""The commands `list` and `stream` of `python -m tokenwire.providers`.

`__main__` reads the catalogue.
"""

import argparse
import os
import sys

from pydantic import ValidationError

from tokenwire.protocol.prices import NANOS
from tokenwire.providers.base import (
    HistoryMessage,
    ProviderError,
    ReasoningDelta,
    RefusalDelta,
    Request,
    TextDelta,
    UsageDelta,
    counts_of,
)
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.cost import prices_of
from tokenwire.providers.http import HttpClient
from tokenwire.providers.presets import IN_PROCESS, key_of
from tokenwire.providers.registry import dialects, open_provider, presets
from tokenwire.providers.spec import ModelSpec, mistake


def list_models(catalogue: Catalogue | None) -> int:
    """Print the usable models."""
    if catalogue is not None:
        default, models = catalogue.default, catalogue.models
        _table(
            "Models",
            [
                (name, spec.provider, spec.model + ("  (default)" if name == default else ""))
                for name, spec in models.items()
            ],
        )
        _table(
            "Models whose key is missing",
            [(name, variable, "") for name, variable in catalogue.missing.items()],
        )
    rows = [
        (preset.name, preset.api, preset.base_url or _nowhere(preset.api))
        for preset in presets().values()
    ]
    _table("Presets", rows)
    _table("Dialects", [(api, "", "") for api in dialects()])
    return 0


async def stream(options: argparse.Namespace, catalogue: Catalogue | None) -> int:
    """Print an answer as it streams: text to standard output, everything else to standard error."""
    spec = _spec_of(options) if options.provider else _chosen(options.model, catalogue)
    if spec is None:
        return 2
    client = HttpClient()
    try:
        return await _print_answer(spec, client, options)
    except ProviderError as error:
        waiting = f", retry after {error.retry_after_s:g} s" if error.retry_after_s else ""
        sys.stderr.write(
            f"\n{type(error).__name__} ({error.code or 'no code'}{waiting}): {error.message}\n"
        )
        return 1
    finally:
        await client.aclose()


async def _print_answer(spec: ModelSpec, client: HttpClient, options: argparse.Namespace) -> int:
    system = [HistoryMessage("system", options.system)] if options.system else []
    request = Request(
        [*system, HistoryMessage("user", options.prompt)], max_tokens=options.max_tokens
    )
    async with open_provider(spec, client).stream(request) as answer:
        async for deltas in answer:
            for delta in deltas:
                _print(delta, spec)
    sys.stdout.write("\n")
    return 0


def _print(delta: object, spec: ModelSpec) -> None:
    match delta:
        case TextDelta(text) | RefusalDelta(text):
            sys.stdout.write(text)
            sys.stdout.flush()
        case ReasoningDelta(text) if text:
            sys.stderr.write(text)
            sys.stderr.flush()
        case UsageDelta():
            prices = prices_of(spec)
            cost = "" if prices is None else f" cost {prices.cost(counts_of(delta)) / NANOS:.6f}"
            sys.stderr.write(f"\n{delta}{cost}")
        case ReasoningDelta():
            pass
        case _:
            sys.stderr.write(f"\n{delta}\n")


def _chosen(name: str | None, catalogue: Catalogue | None) -> ModelSpec | None:
    if catalogue is None:
        sys.stderr.write("there is no catalogue here; name a --provider\n")
        return None
    name = name or catalogue.default
    if name not in catalogue.models:
        variable = catalogue.missing.get(name)
        why = (
            f"needs {variable}, which is not set"
            if variable
            else f"is not one of {', '.join(catalogue.models)}"
        )
        sys.stderr.write(f"{name} {why}\n")
        return None
    return catalogue.models[name]


def _spec_of(options: argparse.Namespace) -> ModelSpec | None:
    preset = presets().get(options.provider)
    if preset is None:
        sys.stderr.write(
            f"no provider is called {options.provider}; there are {', '.join(presets())}\n"
        )
        return None
    key = options.api_key or key_of(preset, os.environ)
    name = options.model or "default"
    try:
        return ModelSpec(
            name=name,
            provider=preset.name,
            model=name,
            api=options.api,
            base_url=options.base_url,
            api_key=key,
        )
    except ValidationError as error:
        sys.stderr.write(f"{mistake(error)}\n")
        return None


def _nowhere(api: str) -> str:
    """What stands in place of an address."""
    return "(needs none)" if api in IN_PROCESS else "(base_url is yours)"


def _table(title: str, rows: list[tuple[str, str, str]]) -> None:
    if rows:
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [
            f"  {row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows
        ]
        sys.stdout.write("\n".join((title, *lines)) + "\n\n")
