"""Pure: the calls of an answer as rows hold them, next to the parts that readers hold.

Guarantees:
- `differences` gives exactly the fields that the log lacks. Applied, they leave no difference.
- `RoundCalls.next` never begins a call that a person or a client must decide about first, or that
  nobody here executes.

Why it works this way: the table of calls is ahead of the log, because a result is stored before
anybody sees it. So every attempt, and everybody who ends an answer, first appends what the log
lacks. Nobody needs to know which crash left the difference.

Rejected: an event for each act (a crash between the act and its event would lose it).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar

from tokenwire.models.call_states import StoredCall, awaiting, call_fields, left_to_caller
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.states import CALL_ENDED

_OF_ROWS: Final = (
    *("state", "runs_at", "title", "result", "error", "expires_at", "approval", "ran_with"),
)
"""The fields of a part that come from the row of its call."""


C = TypeVar("C", bound=StoredCall)


class CallChange(NamedTuple):
    """Fields that the part with this number lacks; null removes one."""

    part: int
    fields: Mapping[str, Any]


def differences(answer: Answer, calls: Sequence[StoredCall]) -> Iterator[CallChange]:
    """What the answer lacks of its calls. Calls of parts that it does not hold are left out: they
    are of a newer attempt, or their parts are damaged.
    """
    of_parts = {n for n, part in enumerate(answer.parts) if part.type == "tool_call"}
    for call in calls:
        if call.number not in of_parts:
            continue
        held, wanted = answer.parts[call.number].fields, call_fields(call)
        changed = {
            name: wanted.get(name)
            for name in _OF_ROWS
            if (name in held) != (name in wanted) or held.get(name) != wanted.get(name)
        }
        if changed:
            yield CallChange(call.number, changed)


@dataclass(frozen=True, slots=True)
class RoundCalls(Generic[C]):
    """All calls of an answer, and `rev`, the count of changes that others have made."""

    rows: Sequence[C]
    rev: int

    @property
    def have_ended(self) -> bool:
        """Whether nothing is left to do here."""
        return all(call.state in CALL_ENDED or left_to_caller(call) for call in self.rows)

    @property
    def are_left(self) -> bool:
        """Whether the program that asked has calls to execute or to allow, with which the answer
        ends.
        """
        return any(map(left_to_caller, self.rows))

    @property
    def are_awaited(self) -> bool:
        """Whether nothing but decisions is missing."""
        return all(
            call.state in CALL_ENDED or left_to_caller(call) or awaiting(call.state)
            for call in self.rows
        )

    def next(self, running: Collection[int], most: int) -> Sequence[C]:
        """The calls to begin now. `running`: numbers of those that were begun here, some of which
        wait for a place and are still `proposed`; `most`: at a time.
        """
        ready = [
            call
            for call in self.rows
            if call.state == "proposed" and call.runs_at == "server" and call.number not in running
        ]
        return ready[: max(0, most - len(running))]
