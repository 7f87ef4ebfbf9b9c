"""Reads the model catalogue (YAML) into plain `ModelSpec`s: which models exist, which are offered, which is the default.

It checks every key and value, expands `${VARIABLES}`, and says in one line what is wrong and where. An entry whose key is not in the
environment is left out. Local servers are offered only where they answer: `Catalogue.local_servers` says where to look, whoever calls
`offered` has tried them. How a provider is spoken to is not known here; `PROVIDERS` holds the few facts of each that decide whether its
models can be offered, for processes that do not load `providers`.
"""

import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from tokenwire.config.settings import Settings, variables

Rung = Literal["attach", "prefix", "turn", "restart", "none"]
Value = Any  # what YAML holds


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What decides whether a provider's models can be offered. `address`: where a local server of this kind usually listens."""

    key_variable: str | None = None
    address: str | None = None
    continuation: Rung = "turn"


PROVIDERS: Mapping[str, ProviderFacts] = {
    "demo": ProviderFacts(continuation="prefix"),
    "openai": ProviderFacts("OPENAI_API_KEY"),
    "openai_compatible": ProviderFacts(),
    "openai_responses": ProviderFacts("OPENAI_API_KEY"),
    "azure_openai": ProviderFacts("AZURE_OPENAI_API_KEY"),
    "anthropic": ProviderFacts("ANTHROPIC_API_KEY"),
    "gemini": ProviderFacts("GEMINI_API_KEY"),
    "vertex": ProviderFacts("GOOGLE_ACCESS_TOKEN"),
    "deepseek": ProviderFacts("DEEPSEEK_API_KEY", continuation="prefix"),
    "mistral": ProviderFacts("MISTRAL_API_KEY", continuation="prefix"),
    "cohere": ProviderFacts("COHERE_API_KEY"),
    "openrouter": ProviderFacts("OPENROUTER_API_KEY"),
    "groq": ProviderFacts("GROQ_API_KEY"),
    "xai": ProviderFacts("XAI_API_KEY"),
    "together": ProviderFacts("TOGETHER_API_KEY"),
    "perplexity": ProviderFacts("PERPLEXITY_API_KEY"),
    "huggingface": ProviderFacts("HF_TOKEN"),
    "ollama": ProviderFacts(address="http://127.0.0.1:11434"),
    "ollama_compatible": ProviderFacts(address="http://127.0.0.1:11434/v1"),
    "lmstudio": ProviderFacts(address="http://127.0.0.1:1234/v1"),
    "localai": ProviderFacts(address="http://127.0.0.1:8080/v1"),
    "llamacpp": ProviderFacts(address="http://127.0.0.1:8080/v1", continuation="prefix"),
    "vllm": ProviderFacts(address="http://127.0.0.1:8000/v1", continuation="prefix"),
}


_HOMELESS = ("openai_compatible", "azure_openai", "vertex")
"""Providers whose address is everybody's own."""


_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_HEADER = re.compile("auth|key|token|secret|cookie|password", re.IGNORECASE)


class CatalogueError(ValueError):
    """The file cannot be used; the message names file, model and key in one line."""


class _VariableMissing(Exception):
    """A value names a variable that is not set."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One usable entry. None: what the provider's preset says. Prices are per million tokens."""

    name: str
    provider: str
    model: str
    api: str | None = None
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    continuation: Rung = "turn"
    stall_seconds: float | None = None
    context_tokens: int | None = None
    input_price: float | None = None
    output_price: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server on this machine or near it: its kind (the provider), and whether it is `usual`: not an address that the catalogue names."""

    url: str
    kind: str
    usual: bool


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All usable models in the file's order. `missing`: entries left out, with the variable that would bring them in."""

    default: str
    title_model: str
    models: Mapping[str, ModelSpec]
    missing: Mapping[str, str]

    @property
    def secrets(self) -> list[str]:
        """What no log may show: keys, and what headers carry in their place."""
        keys = [spec.api_key for spec in self.models.values() if spec.api_key]
        return keys + [
            value
            for spec in self.models.values()
            for name, value in spec.headers.items()
            if _SECRET_HEADER.search(name)
        ]

    @property
    def local_servers(self) -> dict[str, LocalServer]:
        """Where to look, and for whom, for each model of a local server."""
        return {
            name: server for name, spec in self.models.items() if (server := _local_server(spec))
        }

    def offered(self, there: Collection[LocalServer]) -> list[str]:
        """The models that can be offered now, `there` being the local servers that answered. The default comes first."""
        local = self.local_servers
        names = [name for name in self.models if name not in local or local[name] in there]
        return sorted(names, key=lambda name: name != self.default)


def load_from(settings: Settings) -> Catalogue:
    """The catalogue of this process, or an end of it with one clear line on standard error (exit code 78, EX_CONFIG)."""
    try:
        return load(settings.models_file, variables())
    except CatalogueError as error:
        sys.stderr.write(f"tokenwire: wrong model catalogue: {error}\n")
        raise SystemExit(78) from None


def load(path: Path, environ: Mapping[str, str]) -> Catalogue:
    """The catalogue in a file. Raises CatalogueError."""
    return parse(_document(path), environ, str(path))


def variables_of(path: Path) -> dict[str, bool]:
    """The variables that the catalogue in a file reads, each with whether it is a key. Raises CatalogueError.

    A process that only offers models (web) must know that a key is there, and need not know the key.
    """
    found: dict[str, bool] = {}
    entries = (
        entry
        for entry in _mapping(
            _mapping(_document(path), str(path)).get("models"), f"{path}: models"
        ).values()
        if entry
    )
    for entry in entries:
        for field_name, value in entry.items():
            for name in _VARIABLE.findall(yaml.safe_dump(value)):
                found[name] = found.get(name, False) or field_name in ("api_key", "headers")
    return found | {facts.key_variable: True for facts in PROVIDERS.values() if facts.key_variable}


def _document(path: Path) -> Value:
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise CatalogueError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def parse(document: Value, environ: Mapping[str, str], path: str = "models.yml") -> Catalogue:
    """The catalogue in a parsed document. Raises CatalogueError."""
    top = _mapping(document, path)
    _refuse_unknown(top, ("default", "title_model", "models"), path)
    models: dict[str, ModelSpec] = {}
    missing: dict[str, str] = {}
    for name, entry in _mapping(top.get("models"), f"{path}: models").items():
        where = f"{path}: {name}"
        try:
            models[name] = _spec(name, _mapping(entry or {}, where), environ, where)
        except _VariableMissing as error:
            missing[name] = str(error)
    default = _chosen(top, "default", models, missing, path) or next(iter(models), None)
    if default is None:
        raise CatalogueError(
            f"{path}: no model can be used; set one of {', '.join(sorted(set(missing.values()))) or 'its keys'}"
        )
    return Catalogue(
        default, _chosen(top, "title_model", models, missing, path) or default, models, missing
    )


def _chosen(
    top: Mapping[str, Value],
    key: str,
    models: Mapping[str, ModelSpec],
    missing: Mapping[str, str],
    path: str,
) -> str | None:
    name = top.get(key)
    if name is None or name in models:
        return name
    if name in missing:
        raise CatalogueError(f"{path}: {key}: {name} needs {missing[name]}, which is not set")
    raise CatalogueError(f"{path}: {key}: no model is called {name!r}")


def _spec(
    name: str, entry: Mapping[str, Value], environ: Mapping[str, str], where: str
) -> ModelSpec:
    _refuse_unknown(entry, ("provider", "model", *_FIELDS), where)
    provider = _text(entry.get("provider"), f"{where}: provider")
    if provider not in PROVIDERS and "api" not in entry:
        raise CatalogueError(
            f"{where}: provider: none is called {provider!r} (known: {', '.join(PROVIDERS)}; others need `api`)"
        )
    facts = PROVIDERS.get(provider, ProviderFacts())
    values = {
        key: read(_expanded(entry[key], environ), f"{where}: {key}")
        for key, read in _FIELDS.items()
        if entry.get(key) is not None
    }
    if "api_key" not in values and facts.key_variable:
        values["api_key"] = _expanded(f"${{{facts.key_variable}}}", environ)
    if provider in _HOMELESS and "base_url" not in values:
        raise CatalogueError(f"{where}: base_url: is needed for provider {provider}")
    values.setdefault("continuation", facts.continuation)
    return ModelSpec(
        name=name,
        provider=provider,
        model=_text(_expanded(entry.get("model", name), environ), f"{where}: model"),
        **values,
    )


def _local_server(spec: ModelSpec) -> LocalServer | None:
    facts = PROVIDERS.get(spec.provider)
    if facts is None or facts.address is None:
        return None
    return LocalServer(spec.base_url or facts.address, spec.provider, usual=spec.base_url is None)


def _expanded(value: Value, environ: Mapping[str, str]) -> Value:
    """`${NAME}` in texts, also inside of lists and mappings. An unset or empty variable raises _VariableMissing."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match[1], environ), value)
    if isinstance(value, dict):
        return {key: _expanded(item, environ) for key, item in value.items()}
    return [_expanded(item, environ) for item in value] if isinstance(value, list) else value


def _variable(name: str, environ: Mapping[str, str]) -> str:
    if not environ.get(name):
        raise _VariableMissing(name)
    return environ[name]


# --- checks: each takes a value and the place it stands in ------------------------------------------------------------


def _mapping(value: Value, where: str) -> Mapping[str, Value]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CatalogueError(f"{where}: must be a mapping with text keys")
    return value


def _refuse_unknown(entry: Mapping[str, Value], known: Collection[str], where: str) -> None:
    for key in entry:
        if key not in known:
            raise CatalogueError(f"{where}: {key}: is not a known key (known: {', '.join(known)})")


def _text(value: Value, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise CatalogueError(f"{where}: must be a text")
    return value


def _url(value: Value, where: str) -> str:
    parts = urlsplit(_text(value, where))
    try:
        usable = (
            parts.scheme in ("http", "https")
            and parts.hostname
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    if not usable:
        raise CatalogueError(f"{where}: must be an address such as http://127.0.0.1:8080/v1")
    if "@" in parts.netloc:
        raise CatalogueError(f"{where}: must hold no user name or password; use api_key or headers")
    return str(value)


def _rung(value: Value, where: str) -> Rung:
    rungs: tuple[Rung, ...] = ("attach", "prefix", "turn", "restart", "none")
    for rung in rungs:
        if value == rung:
            return rung
    raise CatalogueError(f"{where}: must be one of {', '.join(rungs)}")


def _headers(value: Value, where: str) -> Mapping[str, str]:
    return {
        name: _text(str(item), f"{where}: {name}") for name, item in _mapping(value, where).items()
    }


def _number(value: Value, where: str) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value < float("inf")
    ):
        raise CatalogueError(f"{where}: must be a number of at least 0")
    return float(value)


def _seconds(value: Value, where: str) -> float:
    if not _number(value, where):
        raise CatalogueError(f"{where}: must be more than 0")
    return float(value)


def _whole(value: Value, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise CatalogueError(f"{where}: must be a whole number of at least 1")
    return value


_FIELDS: Mapping[str, Callable[[Value, str], Any]] = {
    "api": _text,
    "base_url": _url,
    "api_key": _text,
    "headers": _headers,
    "continuation": _rung,
    "stall_seconds": _seconds,
    "context_tokens": _whole,
    "input_price": _number,
    "output_price": _number,
    "options": _mapping,
}
