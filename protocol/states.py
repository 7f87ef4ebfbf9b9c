"""Pure: the states of an answer and of a tool call, the only lists of them; names of tools, and the
length of a sentence about a call.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

UnfinishedStatus = Literal["queued", "streaming", "retrying", "waiting"]
EndedStatus = Literal["complete", "error", "cancelled"]
AnswerStatus = Literal[UnfinishedStatus, EndedStatus]

UNFINISHED: tuple[UnfinishedStatus, ...] = get_args(UnfinishedStatus)
"""The answer waits or is being written. `waiting`: for a decision about a call."""
ENDED: tuple[EndedStatus, ...] = get_args(EndedStatus)
"""The answer never changes again. The terminal events have the same names."""

AwaitingState = Literal["awaiting_approval", "awaiting_client", "awaiting_outcome"]
"""The call waits for a decision."""
UnendedState = Literal["streaming", "proposed", AwaitingState, "running"]
EndedState = Literal["invalid", "done", "failed", "denied", "withdrawn", "unknown"]
CallState = Literal[UnendedState, EndedState]

CALL_ENDED: tuple[EndedState, ...] = get_args(EndedState)
"""The call never changes again."""
CLOSED_BY_END: Final[Mapping[str, EndedState]] = {
    "streaming": "invalid",
    "proposed": "withdrawn",
    "awaiting_approval": "withdrawn",
    "awaiting_client": "withdrawn",
    "awaiting_outcome": "unknown",
    "running": "unknown",
}
"""The state that the end of its answer gives a call which has not ended."""

TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""The names of tools that every provider accepts."""
MAX_SENTENCE_CHARS: Final = 2000
"""Of what a person, a client or a tool says about a call."""


def closed_state(call: Mapping[str, Any], status: str, reason: str | None) -> EndedState | None:
    """The state that this end of the answer gives a call with these fields; None: it keeps its own.

    A call that nobody here was to execute stays `proposed` in a complete answer: whoever asked for
    the answer may execute it. Such a call has no `runs_at`, or `caller` and the answer ended for
    `tool_calls`.
    """
    state, runs_at = call.get("state"), call.get("runs_at")
    is_callers = runs_at is None or (runs_at == "caller" and reason == "tool_calls")
    if state == "proposed" and status == "complete" and is_callers:
        return None
    return CLOSED_BY_END.get(state) if isinstance(state, str) else None
