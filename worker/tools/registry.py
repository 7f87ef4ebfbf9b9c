"""The tools of an installation: those of the modules that TOOLS names, and the HTTP tools of the
catalogue.

A tool belongs to a module if one of the module's names is its function; so a package may import
them from where they are written. Rejected: a list that the decorator appends to, because then an
import anywhere would give a model a tool.
"""

import importlib
import traceback
from collections.abc import Iterator, Mapping
from types import MappingProxyType, ModuleType

from tokenwire.providers.catalogue import Catalogue
from tokenwire.worker.tools.callback import Callbacks
from tokenwire.worker.tools.definition import ServerTool, declared


class ToolsUnusable(Exception):
    """A module cannot be imported, or its tools cannot be used; or an HTTP tool cannot be called.
    One line says why.
    """


def all_tools(names: str, catalogue: Catalogue) -> Mapping[str, ServerTool]:
    """The tools of these modules, and the HTTP tools of the catalogue. Raises ToolsUnusable."""
    found = dict(load_tools(names))
    for name, variable in catalogue.missing_tools.items():
        raise ToolsUnusable(f"tools: {name} needs {variable}, which is not set")
    callbacks = Callbacks()
    for spec in catalogue.tools.values():
        if spec.name in found:
            raise ToolsUnusable(f"tools: {spec.name} is a tool of TOOLS, too")
        try:
            found[spec.name] = callbacks.tool(spec)
        except ValueError as error:
            raise ToolsUnusable(f"tools: {spec.name}: {error}") from error
    return MappingProxyType(found)


def load_tools(names: str) -> Mapping[str, ServerTool]:
    """The tools of these modules (`a.b,c`) by name. Raises ToolsUnusable."""
    found: dict[str, ServerTool] = {}
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
        raise ToolsUnusable(
            f"TOOLS: {name} cannot be imported: {type(error).__name__}: {lines[0]}{_line(error)}"
        ) from error


def _line(error: Exception) -> str:
    """Where the application's own code failed, if it is known."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [each for each in frames if not each.filename.startswith("<") and each.name == "<module>"]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def _tools_of(module: ModuleType) -> Iterator[ServerTool]:
    for value in list(vars(module).values()):
        if (found := declared(value)) is not None:
            yield found


def _place(tool: ServerTool) -> str:
    return f"{tool.function.__module__}.{tool.function.__qualname__}"
