"""Pure: an assistant's message as its client sends it back, with decisions about calls.

Guarantees: what a client repeats of its history decides nothing. A decision about a call that never
asked for one, about another tool or other arguments than the model's, or against another decision
of the same message, is refused before any decision of the message applies.

Why it works this way: the stream of a waiting answer ends, and its client continues the message
with what it holds. So the message says which calls its reader has, and in which state. `held` makes
of the whole answer what that reader has; the difference is the continued stream. Whether a question
is open is decided in SQL (`models/decisions.py`); this module finds what is decided.

Rejected: arguments that a client has edited. Decisions over the API say openly that they are
others than the model's. Ignoring them is no way either: the person would allow something else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from tokenwire.models.call_states import Decision, fits
from tokenwire.protocol.fold import Answer, Part
from tokenwire.protocol.states import CALL_ENDED, MAX_SENTENCE_CHARS
from tokenwire.protocol.text import input_object
from tokenwire.web.aisdk.values import clean
from tokenwire.web.calls import CallIds

FAILED: Final = "The client's tool failed."
_TAKEN_BACK = ("withdrawn", "unknown")
_BEYOND_64_BITS: Final = re.compile("-?[0-9]{19,20}")
_AS_SHOWN: Final[Mapping[str, str]] = {
    "input-streaming": "streaming",
    "approval-requested": "awaiting_approval",
    "approval-responded": "awaiting_approval",
}


class KnownCall(Protocol):
    """A row of a proven call, as far as it is read here."""

    number: int
    name: str
    state: str
    runs_at: str
    input: str
    approval: dict[str, Any] | None


class Approval(msgspec.Struct, frozen=True):
    """What a person has answered."""

    approved: bool | None = None
    reason: str | None = None


class ToolPart(msgspec.Struct, frozen=True, rename="camel"):
    """A part of a message about a call, as far as it is read."""

    tool_call_id: str
    state: str
    input: Any = msgspec.UNSET
    output: Any = None
    error_text: str | None = None
    approval: Approval | None = None
    provider_executed: bool | None = None
    type: str = ""
    tool_name: str | None = None

    @property
    def name(self) -> str:
        """The tool's name."""
        is_dynamic = self.type == "dynamic-tool"
        return self.tool_name or "" if is_dynamic else self.type.removeprefix("tool-")


@dataclass(frozen=True, slots=True)
class ClientMessage:
    """A message of an assistant. `calls`: in order. `left`: names of the calls behind which another
    step begins.
    """

    id: str
    calls: tuple[ToolPart, ...]
    left: frozenset[str]


class BadDecision(Exception):
    """The message decides what cannot be decided; the text says why."""


@dataclass(frozen=True, slots=True)
class Continued:
    """An answer that a client continues. `calls`: those that both know, by their name."""

    message: ClientMessage
    calls: Mapping[str, KnownCall]

    @property
    def is_torn(self) -> bool:
        """Whether the client has a piece of a turn behind the calls."""
        last = max(self.calls, key=lambda name: self.calls[name].number)
        return last in self.message.left

    def decisions(self) -> list[tuple[int, Decision]]:
        """The decisions about open questions, each with the number of its call.

        Raises BadDecision.
        """
        found = [(part, _decision(part)) for part in self.message.calls]
        asked = [(part, decision) for part, decision in found if decision is not None]
        wanted = dict[int, Decision]()
        for part, decision in asked:
            number = self._asked(part, decision)
            if number is not None and wanted.setdefault(number, decision) != decision:
                raise BadDecision(f"Two decisions about {part.tool_call_id} contradict each other.")
        return list(wanted.items())

    def _asked(self, part: ToolPart, decision: Decision) -> int | None:
        """The number of the call that asked for this decision; None: the part is history."""
        call = self.calls.get(part.tool_call_id)
        if call is None:
            if decision.kind == "error":  # how clients hold a call that the model took back
                return None
            raise BadDecision(f"The answer has no call {part.tool_call_id}.")
        if not fits(call.state, decision.kind):
            if not _is_over(call, decision):
                raise BadDecision(f"The call {part.tool_call_id} does not await this.")
            return None
        if part.name != call.name:
            raise BadDecision(f"The call {part.tool_call_id} is one of {call.name}.")
        if decision.kind == "approve" and not _is_same_input(part.input, call.input):
            reason = "Edited arguments are not taken: decide over /api/messages."
            raise BadDecision(f"{reason} This is about the call {part.tool_call_id}.")
        return call.number

    def held(self, answer: Answer) -> Answer:
        """What the client holds of the answer: turns up to that of its last call, which waits."""
        there = answer.copy()
        last = max(call.number for call in self.calls.values())
        there.reset(_end_of_turn(there.parts, last))
        for part in self.message.calls:
            call = self.calls.get(part.tool_call_id)
            if call is not None:
                _show(there.parts[call.number], part, call)
        there.status = "waiting"
        return there


def known_calls(
    message: ClientMessage, parts: Sequence[Part], rows: Sequence[KnownCall]
) -> dict[str, KnownCall]:
    """The calls of the message that have a row, by name. `parts`: those of the answer."""
    ids = CallIds()
    named = {ids.of(parts, row.number): row for row in rows if row.number < len(parts)}
    shown = {part.tool_call_id for part in message.calls}
    return {name: row for name, row in named.items() if name in shown}


def _decision(part: ToolPart) -> Decision | None:
    match part.state:
        case "approval-responded" if part.approval and part.approval.approved is not None:
            if part.approval.approved:
                return Decision("approve")
            return Decision("deny", _sentence(part.approval.reason))
        case "approval-responded":
            raise BadDecision(f"The approval of {part.tool_call_id} has no `approved`.")
        case "output-available":
            return Decision("result", value=part.output)
        case "output-error":
            return Decision("error", _sentence(part.error_text) or FAILED)
    return None


def _sentence(text: str | None) -> str | None:
    return (text or "").strip()[:MAX_SENTENCE_CHARS] or None


def _is_over(call: KnownCall, decision: Decision) -> bool:
    """Whether the client may have been asked, or has what it sends from us."""
    if decision.kind in ("approve", "deny"):
        return call.approval is not None or call.state in _TAKEN_BACK
    return call.state in CALL_ENDED


def _is_same_input(shown: Any, text: str) -> bool:
    return shown is msgspec.UNSET or _is_same(shown, clean(input_object(text)))


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are equal in JavaScript, which has one type of numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    numbers = _number(one), _number(other)
    if None not in numbers and not (isinstance(one, str) and isinstance(other, str)):
        return numbers[0] == numbers[1]
    return type(one) is type(other) and bool(one == other)


def _number(value: Any) -> float | None:
    """What JavaScript makes of a number. It rounds the largest integers of 64 bits to larger ones,
    which come back as texts (`storable_json`).
    """
    if isinstance(value, str) and _BEYOND_64_BITS.fullmatch(value):
        return float(value)
    return float(value) if type(value) in (int, float) else None


def _end_of_turn(parts: Sequence[Part], last: int) -> int:
    return next((n for n in range(last + 1, len(parts)) if parts[n].type == "step"), len(parts))


def _show(part: Part, shown: ToolPart, call: KnownCall) -> None:
    """Change a call to what the client has of it: what it lacks follows in the stream.

    An outcome that the client found itself is sent to it: from then on it counts as ours.
    """
    if shown.provider_executed and part.fields.get("state") in CALL_ENDED and _is_outcome(shown):
        return
    unasked = "awaiting_client" if call.runs_at == "client" else "proposed"
    forgotten = dict.fromkeys(("result", "error", "approval", "expires_at", "ran_with"))
    state = _AS_SHOWN.get(shown.state, unasked)
    part.merge({**forgotten, "runs_at": call.runs_at, "state": state})


def _is_outcome(shown: ToolPart) -> bool:
    return shown.state in ("output-available", "output-error", "output-denied")
