"""Tools of an application: docs/tools.md explains them. Needs no package of the server."""

from tokenwire.worker.tools.arguments import ToolMisuse
from tokenwire.worker.tools.context import ToolContext, ToolError, UnknownEffect
from tokenwire.worker.tools.definition import client_tool, tool

__all__ = ["ToolContext", "ToolError", "ToolMisuse", "UnknownEffect", "client_tool", "tool"]
