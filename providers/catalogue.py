"""Reads the model catalogue (YAML): which models exist, which are offered, which is the default.

An entry is read in three steps: `${VARIABLES}` are expanded, `ModelSpec` checks types and ranges,
and the preset supplies the key that the entry does not name. An entry whose variable
is not set is left out (`Catalogue.missing`); its other fields are checked all the same, so that a
mistake is found without the key. A process that asks providers loads plugins first, so that their
presets count; others know an entry of a plugin by its `api`.

A mistake is one line that names file, model and field. The line shows names and no values: neither
of a variable nor of a key that stands in the file itself.

Light: it loads no decoder and no HTTP client, so web and the launcher may import it. Local servers
are offered only where they answer: `Catalogue.local_servers` lists their addresses, and the caller
of `offered` has tried them.
"""

import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from tokenwire.providers import cost, parameters
from tokenwire.providers.presets import PRESETS, key_of, lacks_address
from tokenwire.providers.spec import (
    ClientToolSpec,
    McpSpec,
    ModelSpec,
    Preset,
    ToolSpec,
    empty_for_null,
    mistake,
)

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_NAME = re.compile("auth|key|token|secret|cookie|password", re.IGNORECASE)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_ENTRY_KEYS = tuple(each.name for each in fields(ModelSpec) if each.name != "name")
"""The place of an entry in the file gives its name."""
_EXPANDED = frozenset(_ENTRY_KEYS) - {"provider"}
"""The provider is not expanded, since it decides which key is needed."""
_SECRET_KEYS = frozenset({"api_key", "args", "env", "headers", "secret"})
_TOO_DEEP = "nests too deeply"


class CatalogueError(ValueError):
    """The file cannot be used; the message names file, model and field in one line."""

    def __init__(self, *path: str) -> None:
        super().__init__(" ".join(": ".join(path).split()))


class _VariableMissing(Exception):
    """A value names a variable that is not set; the text is its name."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A local server and its kind (the provider).

    `usual`: the address is the preset's, and the catalogue names no other.
    """

    url: str
    kind: str
    usual: bool


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All usable models in the file's order, the HTTP tools, the tools of clients, and the MCP
    servers.

    `missing`, `missing_tools`, `missing_mcp`: entries left out, each with the variable that would
    enable it.
    """

    default: str
    title_model: str
    models: Mapping[str, ModelSpec]
    missing: Mapping[str, str]
    tools: Mapping[str, ToolSpec] = field(default_factory=dict)
    missing_tools: Mapping[str, str] = field(default_factory=dict)
    client_tools: Mapping[str, ClientToolSpec] = field(default_factory=dict)
    mcp: Mapping[str, McpSpec] = field(default_factory=dict)
    missing_mcp: Mapping[str, str] = field(default_factory=dict)
    tool_secrets: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    mcp_secrets: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    """Of each HTTP tool, and of each MCP server: what nobody but the server may see."""

    @property
    def secrets(self) -> list[str]:
        """The secrets that no log may show: keys, headers that replace them, and what tools and MCP
        servers are signed, started or addressed with.
        """
        keys = [spec.api_key for spec in self.models.values() if spec.api_key]
        headers = [spec.headers for spec in self.models.values()]
        keys += _all_named_as_secrets(*headers)
        others = [*self.tool_secrets.values(), *self.mcp_secrets.values()]
        return keys + [secret for secrets in others for secret in secrets]

    @property
    def local_servers(self) -> dict[str, LocalServer]:
        """The address of each model of a local server."""
        return {
            name: server for name, spec in self.models.items() if (server := _local_server(spec))
        }

    def offered(self, there: Collection[LocalServer]) -> list[str]:
        """The models on offer now, the default first.

        `there`: the local servers that answered.
        """
        local = self.local_servers
        names = [name for name in self.models if name not in local or local[name] in there]
        return sorted(names, key=lambda name: name != self.default)


def load_or_exit(path: Path, environ: Mapping[str, str]) -> Catalogue:
    """The catalogue of this process. A mistake ends the process with one line on standard error."""
    try:
        return load(path, environ)
    except CatalogueError as error:
        sys.stderr.write(f"tokenwire: wrong model catalogue: {error}\n")
        raise SystemExit(os.EX_CONFIG) from None


def load(path: Path, environ: Mapping[str, str]) -> Catalogue:
    """The catalogue in a file. Raises CatalogueError."""
    return parse(_document(path), environ, str(path))


def parse(document: Any, environ: Mapping[str, str], path: str = "models.yml") -> Catalogue:
    """The catalogue in a parsed document. Raises CatalogueError."""
    file = _file(document, path)
    models: dict[str, ModelSpec] = {}
    missing: dict[str, str] = {}
    for name, entry in file.models.items():
        spec, variable = _read_entry(name, entry, environ, path)
        if variable is None:
            models[name] = spec
        else:
            missing[name] = variable
    if not models:
        raise _no_model(missing, path)
    for name, spec in models.items():
        for other in spec.fallback:
            if other not in file.models or other == name:
                raise CatalogueError(path, name, f"fallback: no other model is called {other!r}")
    default = _chosen("default", file.default, models, missing, path) or next(iter(models))
    titles = _chosen("title_model", file.title_model, models, missing, path)
    of_clients = {name: tool for name, tool in file.tools.items() if tool.get("client") is True}
    of_services = {name: tool for name, tool in file.tools.items() if name not in of_clients}
    tools, missing_tools = _TOOLS.read(of_services, environ, path)
    client_tools, _ = _CLIENT_TOOLS.read(of_clients, environ, path)
    mcp, missing_mcp = _MCP.read(file.mcp, environ, path)
    return Catalogue(
        default=default,
        title_model=titles or default,
        models=models,
        missing=missing,
        tools=tools,
        missing_tools=missing_tools,
        client_tools=client_tools,
        mcp=mcp,
        missing_mcp=missing_mcp,
        tool_secrets={
            name: _secrets_of_tool(spec, _named_variables(_TOOLS, file.tools[name], environ, path))
            for name, spec in tools.items()
        },
        mcp_secrets={
            name: _secrets_of_mcp(spec, _named_variables(_MCP, file.mcp[name], environ, path))
            for name, spec in mcp.items()
        },
    )


def variables_of(path: Path) -> dict[str, bool]:
    """The variables that a file reads, each with whether it is a key. Raises CatalogueError.

    A process that only offers models (web) must know that a key is set, but not the key.
    """
    found: dict[str, bool] = {}
    file = _file(_document(path), str(path))
    others = [*_TOOLS.expanded_in(file.tools), *_MCP.expanded_in(file.mcp)]
    for entry in [*file.models.values(), *others]:
        for key, value in entry.items():
            for name in _names_in(value, str(path)):
                found[name] = found.get(name, False) or key in _SECRET_KEYS
    return found | {preset.key_variable: True for preset in PRESETS.values() if preset.key_variable}


# --- the file -------------------------------------------------------------------------------------


_Given = Annotated[dict[str, Any], BeforeValidator(empty_for_null)]


class _File(BaseModel):
    """The top level of the file. Entries are read one by one, so that a mistake names its model."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    default: str | None = None
    title_model: str | None = None
    models: dict[str, _Given]
    tools: Annotated[dict[str, _Given], BeforeValidator(empty_for_null)] = {}
    mcp: Annotated[dict[str, _Given], BeforeValidator(empty_for_null)] = {}


def _file(document: Any, path: str) -> _File:
    try:
        return _File.model_validate(document)
    except ValidationError as error:
        raise CatalogueError(path, mistake(error, _File.model_fields)) from None


def _document(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise CatalogueError(str(path), error.strerror or type(error).__name__) from None
    except yaml.MarkedYAMLError as error:
        raise CatalogueError(str(path), "not valid YAML", *_place(error)) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        # No UTF-8, an invalid date or number, or endlessly nested lists.
        raise CatalogueError(str(path), "not valid YAML") from None


def _place(error: yaml.MarkedYAMLError) -> list[str]:
    """The place and reason of a mistake, without any text of the file."""
    mark = error.problem_mark or error.context_mark
    where = [f"line {mark.line + 1}, column {mark.column + 1}"] if mark else []
    return where + ([_QUOTED.sub("...", error.problem)] if error.problem else [])


def _chosen(
    key: str,
    name: str | None,
    models: Mapping[str, ModelSpec],
    missing: Mapping[str, str],
    path: str,
) -> str | None:
    if name is None or name in models:
        return name
    if name in missing:
        raise CatalogueError(path, key, f"{name} needs {missing[name]}, which is not set")
    raise CatalogueError(path, key, f"no model is called {name!r}")


def _no_model(missing: Mapping[str, str], path: str) -> CatalogueError:
    if not missing:
        return CatalogueError(path, "models", "names no model")
    wanted = ", ".join(sorted(set(missing.values())))
    return CatalogueError(path, f"no model can be used; set one of {wanted}")


# --- an entry -------------------------------------------------------------------------------------


def _read_entry(
    name: str, entry: Mapping[str, Any], environ: Mapping[str, str], path: str
) -> tuple[ModelSpec, str | None]:
    """The entry, and its first missing variable: without it the entry is checked, but not
    usable.
    """
    given: dict[str, Any] = {"model": name}
    lacking: dict[str, str] = {}
    for key, value in entry.items():
        try:
            given[key] = _expanded(value, environ) if key in _EXPANDED else value
        except _VariableMissing as error:
            lacking[key] = str(error)
        except RecursionError:
            raise CatalogueError(path, name, key, _TOO_DEEP) from None
    spec = _checked(name, given, path)
    preset = _preset(spec, path)
    if preset is not None:
        _require_address(spec, preset, lacking, path)
        spec = _with_key(spec, preset, environ, lacking)
    return spec, next(iter(lacking.values()), None)


def _checked(name: str, given: Mapping[str, Any], path: str) -> ModelSpec:
    if "name" in given:
        raise CatalogueError(
            path, name, f"name: is not a known key (known: {', '.join(_ENTRY_KEYS)})"
        )
    try:
        spec = ModelSpec(name=name, **given)
    except ValidationError as error:
        raise CatalogueError(path, name, mistake(error, _ENTRY_KEYS)) from None
    if wrong := parameters.mistake_in(spec.options):
        raise CatalogueError(path, f"{name}: options: {parameters.QUIRK}: {wrong}")
    if wrong := cost.mistake_in(spec.options):
        raise CatalogueError(path, f"{name}: options: {wrong}")
    return spec


def _preset(spec: ModelSpec, path: str) -> Preset | None:
    """None: a plugin that is not loaded brings this provider.

    Raises CatalogueError for an unknown name.
    """
    preset = PRESETS.get(spec.provider)
    if preset is None and spec.api is None:
        known = f"(known: {', '.join(PRESETS)}; others need `api`)"
        raise CatalogueError(path, spec.name, "provider", f"{spec.provider!r} is not known {known}")
    return preset


def _require_address(spec: ModelSpec, preset: Preset, lacking: Collection[str], path: str) -> None:
    if "base_url" not in lacking and lacks_address(spec, preset):
        raise CatalogueError(path, spec.name, f"base_url: is needed for provider {preset.name}")


def _with_key(
    spec: ModelSpec, preset: Preset, environ: Mapping[str, str], lacking: dict[str, str]
) -> ModelSpec:
    variable = preset.key_variable
    if variable is None or spec.api_key is not None or "api_key" in lacking:
        return spec
    key = key_of(preset, environ)
    if key is None:
        lacking["api_key"] = variable
        return spec
    return replace(spec, api_key=key)


def _local_server(spec: ModelSpec) -> LocalServer | None:
    preset = PRESETS.get(spec.provider)
    if preset is None or not preset.local or preset.base_url is None:
        return None
    return LocalServer(spec.base_url or preset.base_url, preset.name, usual=spec.base_url is None)


# --- tools, and servers that have them -----------------------------------------------------------

_Spec = TypeVar("_Spec", ToolSpec, ClientToolSpec, McpSpec)


@dataclass(frozen=True)
class _Section(Generic[_Spec]):
    """A section of the file besides the models."""

    name: str
    spec: type[_Spec]
    unset: Mapping[str, Any]
    """The keys that are expanded, each with a value for the check if its variable is not set."""

    def read(
        self, entries: Mapping[str, Mapping[str, Any]], environ: Mapping[str, str], path: str
    ) -> tuple[dict[str, _Spec], dict[str, str]]:
        """The entries, and those that lack a variable."""
        found: dict[str, _Spec] = {}
        missing: dict[str, str] = {}
        for name, entry in entries.items():
            given = dict(entry)
            for key in self.unset.keys() & entry.keys():
                try:
                    given[key] = _expanded(entry[key], environ)
                except _VariableMissing as error:
                    given[key] = self.unset[key]
                    missing.setdefault(name, str(error))
                except RecursionError:
                    raise CatalogueError(path, self.name, name, key, _TOO_DEEP) from None
            spec = self._checked(name, given, path)
            if name not in missing:
                found[name] = spec
        return found, missing

    def expanded_in(self, entries: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What of each entry may name variables."""
        return [
            {key: entry[key] for key in self.unset.keys() & entry.keys()}
            for entry in entries.values()
        ]

    def _checked(self, name: str, given: Mapping[str, Any], path: str) -> _Spec:
        known = tuple(each.name for each in fields(self.spec) if each.name != "name")
        if "name" in given:
            words = f"name: is not a known key (known: {', '.join(known)})"
            raise CatalogueError(path, self.name, name, words)
        try:
            return self.spec(name=name, **given)
        except ValidationError as error:
            raise CatalogueError(path, self.name, name, mistake(error, known)) from None


_TOOLS = _Section("tools", ToolSpec, {"url": "http://unset", "secret": "unset", "headers": {}})
_CLIENT_TOOLS = _Section("tools", ClientToolSpec, {})
_MCP = _Section(
    "mcp",
    McpSpec,
    {"url": "http://unset", "headers": {}, "command": "unset", "args": [], "env": {}},
)


def _named_variables(
    section: _Section[Any], entry: Mapping[str, Any], environ: Mapping[str, str], path: str
) -> dict[str, str]:
    """The variables that an entry names, with their values."""
    [expanded] = section.expanded_in({"": entry})
    return {name: environ[name] for value in expanded.values() for name in _names_in(value, path)}


def _secrets_of_tool(spec: ToolSpec, variables: Mapping[str, str]) -> list[str]:
    """The secret that signs, and the values beside names that sound like a secret: of variables of
    the catalogue, headers, and the query of the address.
    """
    signs = [spec.secret, spec.secret.removeprefix("whsec_")]
    return _forms([*signs, *_all_named_as_secrets(variables, spec.headers, _query(spec.url))])


def _secrets_of_mcp(spec: McpSpec, variables: Mapping[str, str]) -> list[str]:
    """The values beside names that sound like a secret: of variables of the catalogue, headers,
    variables of the process, options, and the query of the address.
    """
    given = (variables, spec.headers, spec.env, _options(spec.args), _query(spec.url or ""))
    return _forms(_all_named_as_secrets(*given))


def _forms(secrets: Sequence[str]) -> list[str]:
    """These, each without the word before it (`Bearer`), and as in an address."""
    bare = [secret.partition(" ")[2] or secret for secret in secrets]
    encoded = [quote(value, safe="") for value in bare]
    return list(dict.fromkeys([*secrets, *bare, *encoded]))


def _query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def _options(args: Sequence[str]) -> dict[str, str]:
    """`--token x` and `--token=x`, each as a name with its value."""
    found: dict[str, str] = {}
    for before, arg in zip(["", *args], args, strict=False):
        name, equals, value = arg.partition("=")
        if equals and name.startswith("-"):
            found[name] = value
        elif before.startswith("-") and not arg.startswith("-"):
            found[before] = arg
    return found


def _named_as_secrets(values: Mapping[str, str]) -> list[str]:
    return [value for name, value in values.items() if _SECRET_NAME.search(name)]


def _all_named_as_secrets(*mappings: Mapping[str, str]) -> list[str]:
    return [value for each in mappings for value in _named_as_secrets(each)]


# --- variables ------------------------------------------------------------------------------------


def _expanded(value: Any, environ: Mapping[str, str]) -> Any:
    """The value with `${NAME}` expanded. An unset or empty variable raises _VariableMissing."""

    def found(name: str) -> str:
        if not environ.get(name):
            raise _VariableMissing(name)
        return environ[name]

    return _replaced(value, found)


def _names_in(value: Any, path: str) -> list[str]:
    names: list[str] = []

    def note(name: str) -> str:
        names.append(name)
        return ""

    try:
        _replaced(value, note)
    except RecursionError:
        raise CatalogueError(path, _TOO_DEEP) from None
    return names


def _replaced(value: Any, found: Callable[[str], str]) -> Any:
    """`${NAME}` in texts becomes `found(name)`, also inside lists and mappings."""
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: found(match[1]), value)
    if isinstance(value, dict):
        return {key: _replaced(item, found) for key, item in value.items()}
    return [_replaced(item, found) for item in value] if isinstance(value, list) else value
