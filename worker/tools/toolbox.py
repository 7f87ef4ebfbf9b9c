"""The tools of a process, and which of them one answer may use.

Guarantees: an answer can neither be offered nor execute a tool that its model's entry in the
catalogue, its conversation or its request leaves out. Each attempt asks again: a worker with other
tools, or behind a conversation that was narrowed meanwhile, executes what is allowed now.

Rejected: the allowed names in the row of the answer (a call that waits for days would run after its
tool was taken away).
"""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from tokenwire.config.terms import ToolTerms
from tokenwire.models.tool_choices import NO_CHOICES, NamedTool, ToolChoices, usable
from tokenwire.providers.base import Tool
from tokenwire.worker.tools.definition import AnyTool, ClientTool, ServerTool
from tokenwire.worker.tools.executor import Executor

START_SECONDS = 5.0
"""The longest wait for the tools of sources, before a process makes its first answer."""
CHECK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class AnswerTools:
    """The tools that one answer may use, by name. `refusal`: why its request cannot be carried out;
    None: it can.
    """

    tools: Mapping[str, AnyTool] = field(default_factory=dict)
    choices: ToolChoices = NO_CHOICES
    refusal: str | None = None

    @property
    def offered(self) -> Sequence[Tool]:
        """The tools in the form of a provider's request."""
        tools = self.tools.values()
        return tuple(Tool(tool.name, tool.description, tool.parameters) for tool in tools)

    @property
    def choice(self) -> str | None:
        """The choice for the first turn, in the same form."""
        return self.choices.tool_choice if self.tools else None

    def on_server(self, name: str) -> ServerTool | None:
        """The tool of this name, if a worker executes it."""
        found = self.tools.get(name)
        return found if isinstance(found, ServerTool) else None


NO_TOOLS = AnswerTools()


def allowed(
    tools: Mapping[str, AnyTool],
    lists: Iterable[Sequence[str] | None],
    choices: ToolChoices,
    *,
    listed: bool,
) -> AnswerTools:
    """The tools of an answer. `lists`, `listed`: as in `tool_choices.usable`."""
    names = usable(places(tools), lists, choices, listed=listed)
    found = {name: tool for name, tool in tools.items() if name in names}
    own = {
        each.name: ClientTool(each.name, None, each.description, each.parameters, each.runs_at)
        for each in choices.own
    }
    both = {**found, **own}
    return AnswerTools(both, choices, next(_refusals(found, own, choices), None))


def places(tools: Mapping[str, AnyTool]) -> Mapping[str, bool]:
    """The names of these tools; True: a client executes the tool."""
    return {name: isinstance(tool, ClientTool) for name, tool in tools.items()}


def _refusals(
    found: Mapping[str, AnyTool], own: Mapping[str, AnyTool], choices: ToolChoices
) -> Iterator[str]:
    approval = choices.caller_approves
    for name in (*(choices.use or ()), *(approval.names if approval else ())):
        if name not in found:
            yield f"This answer cannot use a tool named {name}."
    for name in own:
        if name in found:
            yield f"The request brings a tool named {name}, and so does the server."
    if isinstance(choices.choice, NamedTool) and choices.choice.name not in {*found, *own}:
        yield f"This answer cannot use a tool named {choices.choice.name}."
    if choices.choice == "required" and not found and not own:
        yield "The request requires a tool, and there is none."


class ToolSource(Protocol):
    """Tools that come and go while the process runs."""

    @property
    def name(self) -> str:
        """For the log."""

    @property
    def tools(self) -> Mapping[str, ServerTool]:
        """Its present tools: a mapping that is replaced, never changed. From any thread."""

    @property
    def tried(self) -> bool:
        """Whether its tools are known, or could not be found out at first. From any thread."""

    async def run(self) -> None:
        """Keep the tools up to date, on the loop of tools, until it is cancelled."""


class Toolbox:
    """The tools of one process, by name, and what executes them."""

    def __init__(
        self,
        tools: Mapping[str, AnyTool] | None = None,
        terms: ToolTerms | None = None,
        sources: Sequence[ToolSource] = (),
    ) -> None:
        self._fixed = tools or {}
        self._sources = sources
        self.terms = terms or ToolTerms()

    @property
    def tools(self) -> Mapping[str, AnyTool]:
        """The tools at this moment. The names of sources do not overlap."""
        found = dict(self._fixed)
        for source in self._sources:
            found.update(source.tools)
        return found

    async def open(self) -> None:
        """Start the sources, and wait until their tools are known, for START_SECONDS at most: an
        answer that a process takes over at its start needs them.
        """
        for source in self._sources:
            self.executor.keep(source.name, source.run)
        end = time.monotonic() + START_SECONDS
        while not all(source.tried for source in self._sources) and time.monotonic() < end:
            await asyncio.sleep(CHECK_SECONDS)

    @cached_property
    def executor(self) -> Executor:
        """Made with the first call, on the loop of the attempts."""
        return Executor(self.terms)

    async def aclose(self) -> None:
        """End the thread of the tools, if there is one."""
        if "executor" in self.__dict__:
            await self.executor.close()
