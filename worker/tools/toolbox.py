"""The tools of a process, and what executes them."""

from collections.abc import Mapping, Sequence
from functools import cached_property

from tokenwire.config.terms import ToolTerms
from tokenwire.providers.base import Tool
from tokenwire.worker.tools.definition import ServerTool
from tokenwire.worker.tools.executor import Executor


class Toolbox:
    """The tools that answers may use here, by name."""

    def __init__(
        self, tools: Mapping[str, ServerTool] | None = None, terms: ToolTerms | None = None
    ) -> None:
        self._tools = tools or {}
        self.terms = terms or ToolTerms()

    def get(self, name: str) -> ServerTool | None:
        """The tool of this name."""
        return self._tools.get(name)

    @property
    def offered(self) -> Sequence[Tool]:
        """The tools in the form of a request."""
        return [Tool(tool.name, tool.description, tool.parameters) for tool in self._tools.values()]

    @cached_property
    def executor(self) -> Executor:
        """Made with the first call, on the loop of the attempts."""
        return Executor(self.terms)

    async def aclose(self) -> None:
        """End the thread of the tools, if there is one."""
        if "executor" in self.__dict__:
            await self.executor.close()
