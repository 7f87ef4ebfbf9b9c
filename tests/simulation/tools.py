"""The tools of a schedule, and the world outside that they change: no crash takes back what a run
has done.

The executor is the project's own. Its threads, and its loop of tools, are callbacks of the process
on the virtual clock (`VirtualThread`, `VirtualToolLoop`).
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulation.loop import Node, VirtualLoop, owner
from tests.simulation.trace import Trace
from tokenwire.config.terms import ToolTerms
from tokenwire.worker import schema_process
from tokenwire.worker.tools.context import ToolContext, ToolError, UnknownEffect
from tokenwire.worker.tools.definition import AnyTool, client_tool, declared, tool
from tokenwire.worker.tools.toolbox import Toolbox

LARGE = 5
"""From this number on, `spend` needs an approval."""

PICKED = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
"""The arguments of `pick`, which people execute."""


@dataclass(slots=True)
class Execution:
    """One run of a tool. `outcome`: what it gave back; None: it has not ended, or never will."""

    name: str
    key: str
    run: int
    n: int
    node: Node
    began: float
    seconds: float
    outcome: str | None = None

    @property
    def result(self) -> dict[str, Any]:
        """What it returns if it is done."""
        return {"key": self.key, "run": self.run, "n": self.n}

    @property
    def is_under_way(self) -> bool:
        return self.outcome is None and self.node.alive


class World:
    """Everything that tools have done. `complain` receives what no correct worker does."""

    def __init__(
        self, rng: random.Random, loop: VirtualLoop, trace: Trace, complain: Callable[[str], None]
    ) -> None:
        self._rng, self._loop, self._trace, self._complain = rng, loop, trace, complain
        self.executions: dict[str, list[Execution]] = {}
        """By key, in order."""
        self.on_effect: Callable[[Node], None] = lambda _node: None
        self.terms = ToolTerms(
            tool_seconds=rng.choice((1.5, 4.0)),
            tool_approval_seconds=rng.choice((1.5, 6.0, 30.0)),
            tool_client_seconds=rng.choice((1.5, 6.0, 30.0)),
            tool_unknown_seconds=rng.choice((0.0, 2.0, 20.0)),
            max_tool_rounds=rng.choice((2, 10, 10)),
            max_parallel_calls=rng.choice((1, 8)),
        )
        self._tools = _tools(self)

    def toolbox(self) -> Toolbox:
        """The tools of one process."""
        return Toolbox(self._tools, self.terms)

    def of(self, key: str, run: int | None = None) -> list[Execution]:
        """The executions of a call, or of one of its runs."""
        return [one for one in self.executions.get(key, ()) if run in (None, one.run)]

    async def run(self, name: str, context: ToolContext, n: int) -> dict[str, Any]:
        """A run that takes some time."""
        one = self._begin(name, context, n)
        await asyncio.sleep(one.seconds)
        return self._end(one)

    def run_at_once(self, name: str, context: ToolContext, n: int) -> dict[str, Any]:
        """A run in a thread: it begins and ends in one step."""
        return self._end(self._begin(name, context, n))

    def _begin(self, name: str, context: ToolContext, n: int) -> Execution:
        seconds = self._rng.choice((0.0, 0.02, 0.02, 0.3, 0.3, 1.0, 60.0))
        one = Execution(name, context.key, context.run, n, owner(), self._loop.time(), seconds)
        if self.of(one.key, one.run):
            self._complain(f"run {one.run} of {one.key} ({name}) was executed twice")
        self.executions.setdefault(one.key, []).append(one)
        self._note(one, "began")
        return one

    def _end(self, one: Execution) -> dict[str, Any]:
        one.outcome = self._rng.choice(("done",) * 6 + ("failed", "unsure"))
        self._note(one, one.outcome)
        if one.outcome == "failed":
            raise ToolError(f"{one.key} failed")
        if one.outcome == "unsure":
            raise UnknownEffect(f"{one.key} is unsure")
        return one.result

    def _note(self, one: Execution, what: str) -> None:
        self._trace.add(one.node.name, f"tool {one.name} {one.key} run {one.run}: {what}")
        self.on_effect(one.node)


def _tools(world: World) -> Mapping[str, AnyTool]:
    @tool(repeatable=True)
    async def note(context: ToolContext, n: int) -> dict[str, Any]:
        """Note something."""
        return await world.run("note", context, n)

    @tool
    async def send(context: ToolContext, n: int) -> dict[str, Any]:
        """Send something."""
        return await world.run("send", context, n)

    @tool
    def jot(context: ToolContext, n: int) -> dict[str, Any]:
        """Jot something down."""
        return world.run_at_once("jot", context, n)

    @tool(approve=True)
    async def pay(context: ToolContext, n: int) -> dict[str, Any]:
        """Pay something."""
        return await world.run("pay", context, n)

    @tool(repeatable=True, approve=lambda given, _context: int(given["n"]) % 10 >= LARGE)
    async def spend(context: ToolContext, n: int) -> dict[str, Any]:
        """Spend something. Much of it needs an approval."""
        return await world.run("spend", context, n)

    pick = client_tool("pick", "Let somebody pick something.", PICKED)
    found = (declared(each) for each in (note, send, jot, pay, spend, pick))
    return {each.name: each for each in found if each is not None}


def needs_approval(name: str, n: int) -> bool:
    """Whether a person must allow this call."""
    return name == "pay" or (name == "spend" and n % 10 >= LARGE)


def misfits(question: Mapping[str, Any]) -> list[Any]:
    """In place of the process that checks schemas."""
    (schema,) = question["schemas"]
    return list(schema_process._errors(schema_process._validator(schema), question["text"]))


class VirtualThread:
    """In place of `threading.Thread`: one step of the process, a moment later."""

    def __init__(self, target: Callable[..., Any], args: tuple[Any, ...], **_: Any) -> None:
        self._work = target, args

    def start(self) -> None:
        """Let it run."""
        target, args = self._work
        asyncio.get_running_loop().call_later(0.0005, target, *args)


class VirtualToolLoop:
    """In place of `worker.tools.loop.ToolLoop`: tasks of the same process."""

    def start(self, _name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> Any:
        """Run this work; the function that cancels it."""
        return asyncio.get_running_loop().create_task(work()).cancel

    def warn_if_blocked(self) -> None:
        """Nothing blocks here."""
