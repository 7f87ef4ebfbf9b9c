"""Resolves a catalogue entry: its preset, its dialect, an open provider.

To add a provider, write one file that builds a `Preset` (and a `Dialect` for a new wire format) and
calls `register`; name its module in the entry-point group `tokenwire.providers`, or import it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from types import MappingProxyType

from tokenwire.providers import demo
from tokenwire.providers.base import InvalidRequest, Provider
from tokenwire.providers.dialect import Dialect
from tokenwire.providers.dialects import DIALECTS
from tokenwire.providers.http import HttpClient
from tokenwire.providers.presets import PRESETS
from tokenwire.providers.spec import ModelSpec, Preset
from tokenwire.providers.stream import HttpProvider

Factory = Callable[[ModelSpec, Preset], Provider]
"""Opens a provider that needs no HTTP."""

_presets: dict[str, Preset] = dict(PRESETS)
_factories: dict[str, Factory] = {"demo": demo.open_demo}
_GROUP = "tokenwire.providers"


def register(item: Preset | Dialect) -> None:
    """Register a preset or a dialect; it replaces one of the same name."""
    if isinstance(item, Preset):
        _presets[item.name] = item
    else:
        DIALECTS[item.api] = item


def load_plugins() -> None:
    """Import the modules that installed packages list in the group `tokenwire.providers`; each
    registers its providers.
    """
    for entry in entry_points(group=_GROUP):
        entry.load()


def presets() -> Mapping[str, Preset]:
    """All presets by name."""
    return MappingProxyType(_presets)


def dialects() -> Mapping[str, Dialect]:
    """All dialects by API name."""
    return MappingProxyType(DIALECTS)


def open_provider(spec: ModelSpec, client: HttpClient) -> Provider:
    """The provider of a catalogue entry. Raises InvalidRequest, which names the entry."""
    preset = preset_of(spec)
    factory = _factories.get(preset.api)
    return factory(spec, preset) if factory else http_provider(spec, client)


def http_provider(spec: ModelSpec, client: HttpClient) -> HttpProvider:
    """The HTTP provider of an entry. Raises InvalidRequest."""
    preset = preset_of(spec)
    dialect = DIALECTS.get(preset.api)
    if dialect is None:
        raise InvalidRequest(
            f"{spec.name}: no dialect is called {preset.api!r}", code="unknown_api"
        )
    if not (spec.base_url or preset.base_url):
        raise InvalidRequest(f"{spec.name}: base_url is missing", code="no_base_url")
    return HttpProvider(spec, preset, dialect, client)


def preset_of(spec: ModelSpec) -> Preset:
    """The preset of an entry, with the entry's dialect. Raises InvalidRequest."""
    preset = _presets.get(spec.provider)
    if preset is None:
        raise InvalidRequest(
            f"{spec.name}: no provider is called {spec.provider!r}", code="unknown_provider"
        )
    return replace(preset, api=spec.api) if spec.api else preset
