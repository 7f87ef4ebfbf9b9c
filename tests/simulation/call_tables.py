"""The tables `calls` and `decisions` of the simulated database: the acts of `models.calls`,
`models.decisions` and the sweeper on them, each as one atomic step.

What a decision or its absence makes of a call is the project's own (`models.call_states`). The
conditions of each act are written anew; `test_statements.py` compares them with the real SQL.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from tokenwire.models import tables
from tokenwire.models.answers import Checkpoint
from tokenwire.models.call_states import Decision, awaiting, decided, expired, fits, lost, withdrawn
from tokenwire.models.calls import EndedRun, NewCall, ParkResult
from tokenwire.models.decisions import Decided
from tokenwire.models.errors import (
    AlreadyDecided,
    AnswerEnded,
    DecisionExpired,
    NotAwaited,
    NotFound,
)
from tokenwire.models.sweeps import ExpiredCall
from tokenwire.protocol.states import CLOSED_BY_END, UNFINISHED
from tokenwire.protocol.values import timestamp

_DEFAULTS = {
    table: {
        name: None if field.is_required() else field.get_default()
        for name, field in table.model_fields.items()
    }
    for table in (
        tables.Message,
        tables.Conversation,
        tables.CallRow,
        tables.CallDecision,
    )
}
QUESTIONS = {
    "awaiting_approval": ("approve", "deny"),
    "awaiting_client": ("result", "error"),
    "awaiting_outcome": ("repeat", "result", "go_on"),
}
"""The decisions that a state awaits."""
FIRST_MS = 1_800_000_000_000
"""When a schedule begins, by the database's clock."""


class Row:
    """A row, with the columns of its table as attributes."""

    def __init__(self, table: type, **values: Any) -> None:
        self.__dict__.update(_DEFAULTS[table])
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no column {name}")

    def __repr__(self) -> str:
        return f"Row({self.__dict__})"


def copy_of(row: Row) -> Any:
    """The row as it is now, for somebody else."""
    copied = Row.__new__(Row)
    copied.__dict__.update(row.__dict__)
    return copied


def is_unfinished(row: Row) -> bool:
    """Whether it is an answer that has not ended."""
    return row.role == "assistant" and row.status in UNFINISHED


class CallTables:
    """The part of the database that holds calls. The rest holds messages and conversations."""

    messages: dict[str, Row]
    conversations: dict[str, Row]
    now_ms: Callable[[], int]
    _set: Callable[..., None]
    _mine: Callable[[str, int], Row | None]
    _save: Callable[..., None]
    _note: Callable[..., None]
    let_posts_steer: Callable[[Row], None]

    def __init__(self) -> None:
        self.call_rows: dict[str, dict[int, Row]] = {}
        """Message -> number of the part -> its call."""
        self.decision_rows: list[Row] = []
        self._keys = itertools.count(1)
        self.on_call_changed: Callable[[Row, dict[str, Any]], None] = lambda _call, _values: None
        """Is given each call that is about to change, and its new columns."""

    # --- the store's methods: worker ---

    def calls_of(self, message_id: str) -> list[Any]:
        return [copy_of(call) for call in self._calls_in(message_id)]

    def calls_at(self, message_id: str) -> tuple[int, list[Any]]:
        row = self.messages.get(message_id)
        return (row.calls_rev if row else 0), self.calls_of(message_id)

    def is_followed(self, message_id: str) -> bool:
        mine = self.messages.get(message_id)
        return mine is not None and any(
            row.conversation_id == mine.conversation_id
            and row.ordinal > mine.ordinal
            and is_unfinished(row)
            for row in self.messages.values()
        )

    def prove_turn(self, item: Checkpoint, calls: Sequence[NewCall]) -> bool:
        row = self._mine(item.message_id, item.attempt)
        if row is None:
            return False
        there = self.call_rows.setdefault(row.id, {})
        new = [call for call in calls if call.number not in there]
        proven = max(row.proven_parts, item.proven_parts)
        if item.saves >= row.saves:
            self._save(row, item, "proof")
        rounds = row.rounds + bool(new)
        self._set(row, proven_parts=proven, rounds=rounds, deaths=0, starts=0, tries=0)
        self._note(row, item.attempt, "proof")
        for call in new:
            there[call.number] = self._new(row.id, call)
        return True

    def _new(self, message_id: str, call: NewCall) -> Row:
        now, columns = self.now_ms(), tables.CallRow.model_fields
        told = {n: getattr(call, n) for n in NewCall.__dataclass_fields__ if n in columns}
        waits = call.expires_in_ms
        return Row(
            tables.CallRow,
            **told,
            message_id=message_id,
            key=f"key{next(self._keys)}",
            expires_at=None if waits is None else now + waits,
            created_at=now,
            updated_at=now,
        )

    def claim_now(self, message_id: str, attempt: int, number: int, runs: int) -> Any:
        row, call = self._mine(message_id, attempt), self._call(message_id, number)
        if row is None or row.cancel_by is not None or call is None:
            return None
        if (call.state, call.runs_at, call.runs) != ("proposed", "server", runs):
            return None
        self._change(call, state="running", runs=runs + 1, attempt=attempt)
        self._note(row, attempt, "claim")
        return copy_of(call)

    def claimed(self, message_id: str, attempt: int, number: int, runs: int) -> Any:
        call = self._call(message_id, number)
        if call is None or (call.state, call.attempt, call.runs) != ("running", attempt, runs + 1):
            return None
        return copy_of(call)

    def finish_call_now(
        self, message_id: str, attempt: int, number: int, runs: int, outcome: EndedRun
    ) -> bool:
        row, call = self._mine(message_id, attempt), self._call(message_id, number)
        if row is None or call is None:
            return False
        if (call.state, call.attempt, call.runs) != ("running", attempt, runs):
            return False
        waits = outcome.expires_in_ms
        self._change(
            call,
            state=outcome.state,
            result=outcome.result,
            error=outcome.error,
            expires_at=None if waits is None else self.now_ms() + waits,
        )
        self._set(row, deaths=0)
        self._note(row, attempt, "finish call")
        return True

    def has_finished(self, message_id: str, attempt: int, number: int, runs: int) -> bool:
        row, call = self.messages.get(message_id), self._call(message_id, number)
        if row is None or call is None or row.attempt != attempt:
            return False
        return (call.attempt, call.runs) == (attempt, runs) and call.state != "running"

    def lose_calls(self, message_id: str, attempt: int, expires_in_ms: int) -> bool:
        row = self._mine(message_id, attempt)
        if row is None:
            return False
        until = self.now_ms() + expires_in_ms if expires_in_ms else None
        for call in self._calls_in(message_id):
            if call.state == "running" and call.attempt != attempt:
                self._change(call, **lost(repeatable=call.repeatable, expires_at=until))
        self._note(row, attempt, "lose calls")
        return True

    def park_now(self, item: Checkpoint, billed_input: int, calls_rev: int) -> ParkResult:
        row = self._mine(item.message_id, item.attempt)
        if row is None:
            return "lost"
        if row.status != "streaming" or row.cancel_by or row.calls_rev != calls_rev:
            return "changed"
        states = {call.state for call in self._calls_in(row.id)}
        if not any(map(awaiting, states)) or states & {"proposed", "running"}:
            return "changed"
        self._save(row, item, "park")
        self._set(row, status="waiting", waits=row.waits + 1, billed_input=billed_input, starts=0)
        return "parked"

    def has_parked(self, item: Checkpoint) -> bool:
        row = self.messages.get(item.message_id)
        return (
            row is not None and row.attempt == item.attempt and row.status in ("waiting", "queued")
        )

    # --- the store's methods: people and time ---

    def decisions_of(self, message_id: str) -> list[Any]:
        found = [row for row in self.decision_rows if row.message_id == message_id]
        return [copy_of(row) for row in sorted(found, key=lambda row: (row.number, row.ordinal))]

    def decide_now(self, message_id: str, number: int, user_id: str, decision: Decision) -> Decided:
        row, call = self.messages.get(message_id), self._call(message_id, number)
        owner = self.conversations[row.conversation_id].user_id if row is not None else None
        if row is None or call is None or owner != user_id:
            raise NotFound("call")
        records = self._records(message_id, number)
        is_awaited = fits(call.state, decision.kind) and decision.runs in (None, call.runs)
        if not is_awaited or not _is_open(row):
            first = self._first(row, call, user_id, decision, records)
            return Decided(copy_of(call), first, queued=row.status == "queued")
        now = self.now_ms()
        if call.expires_at is not None and call.expires_at <= now:
            raise DecisionExpired(message_id)
        record = Row(
            tables.CallDecision,
            message_id=message_id,
            number=number,
            ordinal=len(records) + 1,
            by=user_id,
            at=now,
            decision=decision.kind,
            reason=decision.reason,
            value=decision.value,
            runs=call.runs,
        )
        self.decision_rows.append(record)
        self._change(call, **decided(decision, user_id, timestamp(now)))
        queued = self._continue(row) or row.status == "queued"
        return Decided(copy_of(call), copy_of(record), queued=queued)

    def expire_calls(self, message_id: str) -> bool:
        row = self.messages.get(message_id)
        if row is None:
            return False
        if row.status not in UNFINISHED:
            self.close_calls(row)
            return False
        now, changed = self.now_ms(), False
        for call in self._calls_in(message_id):
            state = awaiting(call.state)
            if state and call.expires_at is not None and call.expires_at <= now:
                self._change(call, **expired(state, timestamp(now)))
                changed = True
        return changed and self._continue(row)

    def withdraw_calls(self, message_id: str, attempt: int | None = None) -> bool:
        row = self.messages.get(message_id)
        if row is None or row.status not in UNFINISHED or attempt not in (None, row.attempt):
            return False
        withdrawn = self._withdraw(row)
        if withdrawn:
            self.let_posts_steer(row)
        return withdrawn

    def expired_calls(self, after: ExpiredCall | None, limit: int) -> list[ExpiredCall]:
        now = self.now_ms()
        found = (
            ExpiredCall(call.expires_at, call.message_id, call.number)
            for calls in self.call_rows.values()
            for call in calls.values()
            if call.expires_at is not None and call.expires_at <= now
        )
        return sorted(key for key in found if after is None or key > after)[:limit]

    # --- what other acts do to calls ---

    def close_calls(self, row: Row) -> None:
        """The end of the answer, which the row has already, ends its calls."""
        keeps = (row.status, row.finish_reason) == ("complete", "tool_calls")
        for call in self._calls_in(row.id):
            is_callers = keeps and (call.runs_at, call.state) == ("caller", "proposed")
            if call.state in CLOSED_BY_END and not is_callers:
                self._change(call, state=CLOSED_BY_END[call.state], expires_at=None)

    def withdraw_questions(self, conversation_id: str) -> str | None:
        """A post takes the questions before it back: the id of the answer that waited for them."""
        rows = (row for row in self.messages.values() if row.conversation_id == conversation_id)
        row = next((row for row in rows if is_unfinished(row) and row.rounds), None)
        if row is None or row.cancel_by is not None:
            return None
        if row.status == "waiting" and self._withdraw(row):
            return row.id  # type: ignore[no-any-return]
        self._continue(row)
        return None

    def delete_calls(self, message_id: str) -> None:
        """The message is deleted."""
        self.call_rows.pop(message_id, None)
        self.decision_rows = [row for row in self.decision_rows if row.message_id != message_id]

    # --- rows ---

    def _call(self, message_id: str, number: int) -> Row | None:
        return self.call_rows.get(message_id, {}).get(number)

    def _calls_in(self, message_id: str) -> list[Row]:
        return [call for _, call in sorted(self.call_rows.get(message_id, {}).items())]

    def _records(self, message_id: str, number: int) -> list[Row]:
        mine = message_id, number
        return [row for row in self.decision_rows if (row.message_id, row.number) == mine]

    def _change(self, call: Row, **values: Any) -> None:
        self.on_call_changed(call, values)
        self._set(call, **values, updated_at=self.now_ms())

    def _withdraw(self, row: Row) -> bool:
        calls = self._calls_in(row.id)
        asked = [(call, state) for call in calls if (state := awaiting(call.state)) is not None]
        if not asked or any(call.state == "running" for call in calls):
            return False
        for call, state in asked:
            self._change(call, **withdrawn(state))
        self._continue(row)
        return True

    def _continue(self, row: Row) -> bool:
        waits: bool = row.status == "waiting"
        self._set(row, calls_rev=row.calls_rev + 1)
        if waits:
            self._set(row, status="queued", updated_at=self.now_ms())
        return waits

    def _first(
        self, row: Row, call: Row, user_id: str, decision: Decision, records: list[Row]
    ) -> Any:
        """The record of the same decision. Raises what the decision is refused with."""
        same = next(kinds for kinds in QUESTIONS.values() if decision.kind in kinds)
        asked = [
            one for one in records if one.decision in same and decision.runs in (None, one.runs)
        ]
        if asked:
            first = asked[-1]
            content = first.decision, first.reason, first.value
            if first.by == user_id and content == (decision.kind, decision.reason, decision.value):
                return copy_of(first)
            raise AlreadyDecided(copy_of(call), copy_of(first))
        if (call.approval or {}).get("decision") == "expired":
            raise DecisionExpired(row.id)
        raise NotAwaited(call.state) if _is_open(row) else AnswerEnded(row.id)


def _is_open(row: Row) -> bool:
    return row.status in UNFINISHED and row.cancel_by is None and row.superseded_by is None
