"""Sees to the calls of a turn that is whole: claims each one, runs its tool, stores what came of it,
and announces it. Parks the answer when nothing but decisions is missing.

Guarantees: a tool begins only after its claim is committed, and only while the lease holds. Its
outcome is stored before any reader or the model gets it. Whatever a crash interrupts, the next
attempt finds in the rows of the calls.

Why it works this way: after each act the rows are read again, and what the log lacks of them is
appended (`rounds.differences`). So an outcome, a decision of a person and what an earlier worker
left behind take one way.
"""

import asyncio
from collections.abc import Callable

import structlog

from tokenwire.models.calls import CallOutcome, NewCall
from tokenwire.models.tables import CallRow
from tokenwire.protocol import events
from tokenwire.protocol.fold import Part
from tokenwire.worker.attempt.rounds import Calls, differences
from tokenwire.worker.attempt.work import AttemptWork
from tokenwire.worker.outages import outlast
from tokenwire.worker.tools.arguments import BadArguments
from tokenwire.worker.tools.context import ToolContext
from tokenwire.worker.tools.definition import ServerTool
from tokenwire.worker.tools.executor import CallDone, CallFailed, NotBegun, Place
from tokenwire.worker.tools.executor import CallOutcome as Ran

log_line = structlog.get_logger(__name__)
CHECK_SECONDS = 1.0
"""How often decisions are looked for while other calls run."""
MAX_RUNS = 3
"""Runs of a repeatable call whose outcome stays unknown."""
INVALID = "The arguments are no JSON object, or were cut off."


class Calling:
    """The calls of one attempt. `holds`: whether the lease holds for long enough to begin a tool."""

    def __init__(self, work: AttemptWork, holds: Callable[[], bool]) -> None:
        self._work, self._holds = work, holds
        self._tools, self._terms = work.services.tools, work.services.tool_terms
        self._running: dict[int, asyncio.Task[None]] = {}
        self._places: dict[int, Place] = {}
        self._stopped = asyncio.Event()

    # --- a turn ends with calls ---

    async def examined(self, numbers: range) -> list[NewCall]:
        """The calls among these parts, each in its first state. Nothing has run yet."""
        parts = self._work.draft.answer.parts
        return [
            await self._examined(number, parts[number])
            for number in numbers
            if parts[number].type == "tool_call"
        ]

    async def _examined(self, number: int, part: Part) -> NewCall:
        def call(state: str, error: str | None = None, **more: object) -> NewCall:
            id_, name = part.fields["id"], part.fields["name"]
            return NewCall(number, id_, name, part.text, "server", state, error=error, **more)

        if part.fields["state"] != "proposed":
            return call("invalid", INVALID)
        tool = self._tools.get(part.fields["name"])
        if tool is None:
            return call("failed", f"There is no tool named {part.fields['name']}.")
        shown = {"title": tool.title, "repeatable": tool.repeatable}
        try:
            arguments = await asyncio.to_thread(tool.read, part.text)
        except BadArguments as error:
            return call("failed", str(error), **shown)
        context = self._context("", 1)
        if await self._work.services.executor.needs_approval(tool, arguments, context):
            wait = int(self._terms.tool_approval_seconds * 1000)
            return call("awaiting_approval", expires_in_ms=wait, **shown)
        return call("proposed", **shown)
