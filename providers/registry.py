"""Resolves a catalogue entry: its preset, its dialect, an open provider.

To add a provider, write one file that builds a `Preset` (and a `Dialect` for a new wire format) and
calls `register`; name its module in the entry-point group `tokenwire.providers`, or import it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import entry_points
from types import MappingProxyType

from tokenwire.providers import demo
from tokenwire.providers import presets as table
from tokenwire.providers.base import InvalidRequest, Provider
from tokenwire.providers.dialect import Dialect
from tokenwire.providers.dialects import DIALECTS
from tokenwire.providers.http import HttpClient
from tokenwire.providers.spec import ModelSpec, Preset
from tokenwire.providers.stream import HttpProvider

Factory = Callable[[ModelSpec, Preset], Provider]
"""Opens a provider that needs no HTTP."""

_factories: dict[str, Factory] = {"demo": demo.open_demo}
_GROUP = "tokenwire.providers"


def register(item: Preset | Dialect) -> None:
    """Register a preset or a dialect; it replaces one of the same name."""
    if isinstance(item, Preset):
        table.add(item)
    else:
        DIALECTS[item.api] = item


def load_plugins() -> None:
    """Import the modules that installed packages list in the group `tokenwire.providers`; each
    registers its providers.

    Before the catalogue is read, since presets supply keys. Raises InvalidRequest for a preset with
    a quirk that its dialect does not know.
    """
    for entry in entry_points(group=_GROUP):
        entry.load()
    for preset in presets().values():
        _check_quirks(preset)


def presets() -> Mapping[str, Preset]:
    """All presets by name."""
    return table.PRESETS


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
    if spec.api is None:  # quirks belong to the preset's own dialect
        _check_quirks(preset)
    if table.lacks_address(spec, preset):
        raise InvalidRequest(f"{spec.name}: base_url is missing", code="no_base_url")
    return HttpProvider(spec, preset, dialect, client)


def preset_of(spec: ModelSpec) -> Preset:
    """The preset of an entry, with the entry's dialect. Raises InvalidRequest."""
    preset = presets().get(spec.provider)
    if preset is None:
        raise InvalidRequest(
            f"{spec.name}: no provider is called {spec.provider!r}", code="unknown_provider"
        )
    return replace(preset, api=spec.api) if spec.api else preset


def _check_quirks(preset: Preset) -> None:
    dialect = DIALECTS.get(preset.api)
    unknown = sorted(preset.quirks.keys() - dialect.quirks) if dialect else []
    if dialect and unknown:
        known = ", ".join(sorted(dialect.quirks)) or "none"
        raise InvalidRequest(
            f"{preset.name}: {preset.api} knows no quirk {unknown[0]!r} (known: {known})",
            code="unknown_quirk",
        )
