"""Pure: what a decision, or its absence, makes of a call.

Each state that awaits something is one question, and each question has its own decisions. An act
gives the new columns of the call's row; whether it may happen is decided in the transaction that
has locked the answer (`models/decisions.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from tokenwire.protocol.states import AwaitingState
from tokenwire.protocol.values import present, timestamp


class StoredCall(Protocol):
    """A row of the table of calls, as far as it is read here."""

    number: int
    state: str
    runs_at: str
    title: str | None
    result: Any
    error: str | None
    expires_at: int | None
    approval: dict[str, Any] | None
    ran_with: str | None


DecisionKind = Literal["approve", "deny", "result", "error", "repeat", "go_on"]
_FITTING: Final[Mapping[AwaitingState, tuple[DecisionKind, ...]]] = {
    "awaiting_approval": ("approve", "deny"),
    "awaiting_client": ("result", "error"),
    "awaiting_outcome": ("repeat", "result", "go_on"),
}
DENIED: Final = "A person denied this call"
NOT_APPROVED: Final = "Nobody approved this call in time."
NO_RESULT: Final = "The client did not give a result in time."
UNKNOWN_OUTCOME: Final = "Nobody knows whether this call took effect. Do not repeat it."


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody decides about a call. `reason`: of `deny`; the sentence of `error`.

    `value`: the result, or with `approve` the edited arguments as JSON text. `runs`: how often the
    call had run when the person was asked; None: it is not known. A repeated `repeat` without it
    may allow a further run.
    """

    kind: DecisionKind
    reason: str | None = None
    value: Any = None
    runs: int | None = None

    def is_same(self, kind: str, reason: str | None, value: Any) -> bool:
        """Whether a recorded decision has this content."""
        return (self.kind, self.reason, _text(self.value)) == (kind, reason, _text(value))


def fits(state: str, kind: DecisionKind) -> bool:
    """Whether a call in this state awaits such a decision."""
    return any(state == awaiting and kind in kinds for awaiting, kinds in _FITTING.items())


def same_question(one: str, other: str) -> bool:
    """Whether one question may have both decisions."""
    return any(one in kinds and other in kinds for kinds in _FITTING.values())


def decided(decision: Decision, by: str, at: str) -> dict[str, Any]:
    """The columns after a decision that fits. `at`: as on the wire."""
    recorded = {"by": by, "at": at}
    match decision.kind:
        case "approve":
            changes: dict[str, Any] = {
                "state": "proposed",
                "ran_with": decision.value,
                "approval": {"decision": "approved"} | recorded,
            }
        case "deny":
            reason = {} if decision.reason is None else {"reason": decision.reason}
            sentence = f"{DENIED}." if decision.reason is None else f"{DENIED}: {decision.reason}"
            denied = {"decision": "denied"} | reason | recorded
            changes = {"state": "denied", "error": sentence, "approval": denied}
        case "result":
            changes = {"state": "done", "result": decision.value, "error": None}
        case "error":
            changes = {"state": "failed", "error": decision.reason}
        case "repeat":
            changes = {"state": "proposed", "error": None}
        case "go_on":
            changes = {"state": "unknown", "error": UNKNOWN_OUTCOME}
    return changes | {"expires_at": None}


def expired(state: AwaitingState, at: str) -> dict[str, Any]:
    """The columns after the time for a decision is over."""
    approval = {"approval": {"decision": "expired", "at": at}}
    found: dict[AwaitingState, dict[str, Any]] = {
        "awaiting_approval": {"state": "denied", "error": NOT_APPROVED} | approval,
        "awaiting_client": {"state": "failed", "error": NO_RESULT},
        "awaiting_outcome": {"state": "unknown", "error": UNKNOWN_OUTCOME},
    }
    return found[state] | {"expires_at": None}


def withdrawn(state: AwaitingState) -> dict[str, Any]:
    """The columns after the question is taken back."""
    if state == "awaiting_outcome":
        return {"state": "unknown", "error": UNKNOWN_OUTCOME, "expires_at": None}
    return {"state": "withdrawn", "expires_at": None}


def lost(*, repeatable: bool, expires_at: int | None) -> dict[str, Any]:
    """The columns of a running call whose worker is gone. `expires_at`: until when a person is
    asked; None: nobody is.
    """
    if repeatable:
        return {"state": "proposed"}
    if expires_at is None:
        return {"state": "unknown", "error": UNKNOWN_OUTCOME}
    return {"state": "awaiting_outcome", "expires_at": expires_at}


def awaiting(state: str) -> AwaitingState | None:
    """The state, if it awaits a decision."""
    return next((one for one in _FITTING if one == state), None)


def left_to_caller(call: StoredCall) -> bool:
    """Whether the program that asked executes or allows the call, after the end of the answer."""
    return call.state == "proposed" and call.runs_at == "caller"


def call_fields(call: StoredCall) -> dict[str, Any]:
    """The fields of the call's part that come from its row."""
    return present(
        state=call.state,
        runs_at=call.runs_at,
        title=call.title,
        result=call.result,
        error=call.error,
        expires_at=None if call.expires_at is None else timestamp(call.expires_at),
        approval=call.approval,
        ran_with=call.ran_with,
    )


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
