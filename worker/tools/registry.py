"""The tools of an installation: those of the modules that TOOLS names, the HTTP tools of the
catalogue, the tools of clients, and those of its MCP servers.

A tool belongs to a module if one of the module's names is its function, or the tool itself if it is
a client's; so a package may import them from where they are written. Rejected: a list that the
decorator appends to, because then an import anywhere would give a model a tool.

The tools of an MCP server change while the process runs. The names that begin with its name and
`_` belong to it; anything else of such a name is refused at the start. So no server can take the
name of a tool that is not its own.
"""

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType

from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.spec import McpSpec
from tokenwire.worker import schemas
from tokenwire.worker.tools.callback import Callbacks
from tokenwire.worker.tools.definition import AnyTool, ClientTool, declared
from tokenwire.worker.tools.toolbox import ToolSource

_MCP_PACKAGE = "mcp>=2.3,<3"
"""As the extra `mcp` in pyproject.toml has it."""


class ToolsUnusable(Exception):
    """A module cannot be imported, or its tools cannot be used; or an HTTP tool cannot be called.
    One line says why.
    """


@dataclass(frozen=True, slots=True)
class Tools:
    """The tools that the process has from its start, and the sources of others."""

    fixed: Mapping[str, AnyTool]
    sources: Sequence[ToolSource] = ()


def all_tools(names: str, catalogue: Catalogue) -> Tools:
    """The tools of these modules, and those of the catalogue. Raises ToolsUnusable."""
    found = dict(load_tools(names))
    for name, variable in catalogue.missing_tools.items():
        raise ToolsUnusable(f"tools: {name} needs {variable}, which is not set")
    callbacks = Callbacks()
    for spec in catalogue.tools.values():
        if spec.name in found:
            raise ToolsUnusable(f"tools: {spec.name} is a tool of TOOLS, too")
        try:
            found[spec.name] = callbacks.tool(spec, catalogue.tool_secrets.get(spec.name, ()))
        except ValueError as error:
            raise ToolsUnusable(f"tools: {spec.name}: {error}") from error
    for client in catalogue.client_tools.values():
        if client.name in found:
            raise ToolsUnusable(f"tools: {client.name} is a tool of TOOLS, too")
        found[client.name] = ClientTool(
            client.name, client.title, client.description, client.parameters
        )
    _require_usable_schemas([each for each in found.values() if isinstance(each, ClientTool)])
    _require_known_names(catalogue, found)
    return Tools(MappingProxyType(found), _servers(catalogue, found))


def _require_usable_schemas(tools: Sequence[ClientTool]) -> None:
    for tool in tools:
        if tool.parameters.get("type") != "object":
            raise ToolsUnusable(f"tools: {tool.name}: parameters: #/type: must be object")
    try:
        if tools:
            schemas.require_usable_now(*(tool.parameters for tool in tools))
    except schemas.BadSchema as error:
        name = tools[error.number].name
        raise ToolsUnusable(f"tools: {name}: parameters: {error}") from error


def _require_known_names(catalogue: Catalogue, found: Mapping[str, AnyTool]) -> None:
    """A model that names a tool must get it. Those of MCP servers come later."""
    prefixes = tuple(server.prefix for server in catalogue.mcp.values())
    for spec in catalogue.models.values():
        for name in spec.tools or ():
            if name not in found and not name.startswith(prefixes):
                raise ToolsUnusable(f"models: {spec.name}: tools: there is no tool named {name}")


def _servers(catalogue: Catalogue, taken: Mapping[str, AnyTool]) -> Sequence[ToolSource]:
    """The MCP servers. Their package is loaded only if there are any."""
    for name, variable in catalogue.missing_mcp.items():
        raise ToolsUnusable(f"mcp: {name} needs {variable}, which is not set")
    for server in catalogue.mcp.values():
        _require_own_names(server, taken, catalogue)
    if not catalogue.mcp:
        return ()
    try:
        from tokenwire.worker.tools.mcp.server import McpServer  # an extra
    except ModuleNotFoundError as error:
        raise ToolsUnusable(f"mcp: {error}: pip install '{_MCP_PACKAGE}'") from error
    return [
        McpServer(spec, catalogue.mcp_secrets.get(name, ())) for name, spec in catalogue.mcp.items()
    ]


def _require_own_names(server: McpSpec, taken: Mapping[str, AnyTool], catalogue: Catalogue) -> None:
    """No other tool or server may have a name that begins as those of this server's tools."""
    for name in taken:
        if name.startswith(server.prefix):
            raise ToolsUnusable(f"mcp: {server.name}: the tool {name} has a name of this server")
    for other in catalogue.mcp.values():
        if other is not server and other.prefix.startswith(server.prefix):
            raise ToolsUnusable(
                f"mcp: {server.name}: the server {other.name} has a name of this server's tools"
            )


def load_tools(names: str) -> Mapping[str, AnyTool]:
    """The tools of these modules (`a.b,c`) by name. Raises ToolsUnusable."""
    found: dict[str, AnyTool] = {}
    for module in [part.strip() for part in names.split(",") if part.strip()]:
        tools = list(_tools_of(_imported(module)))
        if not tools:
            raise ToolsUnusable(f"TOOLS: {module} has no tools")
        for tool in tools:
            if (other := found.setdefault(tool.name, tool)) is not tool:
                raise ToolsUnusable(
                    f"TOOLS: {_place(other)} and {_place(tool)} are both called {tool.name}"
                )
    return MappingProxyType(found)


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        why = _missing(name, error) or f"{type(error).__name__}: {lines[0]}{_line(error)}"
        raise ToolsUnusable(f"TOOLS: {name} cannot be imported: {why}") from error


def _missing(name: str, error: Exception) -> str | None:
    """If it is this module that does not exist: what to write, or where it was searched."""
    if not isinstance(error, ModuleNotFoundError) or not f"{name}.".startswith(f"{error.name}."):
        return None
    module = name.removesuffix(".py").replace("/", ".")
    if module != name:
        return f"it is the name of a file; write {module}"
    here, path = Path.cwd(), {Path(entry).resolve() for entry in sys.path}
    searched = "PYTHONPATH and what is installed"
    if here in path:
        return f"there is no module {error.name} in {here}, in {searched}"
    return f"there is no module {error.name} in {searched} (PYTHONPATH=. adds {here})"


def _line(error: Exception) -> str:
    """Where the application's own code failed, if it is known."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith("<") and each.name == "<module>"]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def _tools_of(module: ModuleType) -> Iterator[AnyTool]:
    for value in list(vars(module).values()):
        if (found := declared(value)) is not None:
            yield found


def _place(tool: AnyTool) -> str:
    if isinstance(tool, ClientTool):
        return "a client tool"
    return f"{tool.function.__module__}.{tool.function.__qualname__}"
