"""The real SQL statements behind the simulation's database: a schedule's calls are repeated on the
store, in the same order and at the same moments, and must give the same results.

The clock of the statements is the simulation's: SQLite's `julianday` is replaced on every
connection.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from types import SimpleNamespace
from typing import Any

from sqlalchemy import event

from tests.simulation.author import FILE_BYTES
from tests.simulation.database import Database
from tests.simulation.store import REMOTE
from tokenwire.models import conversations, tables
from tokenwire.models.errors import AnswerRunning, FileTooLong, NotAwaited, NotFound
from tokenwire.models.quotas import Quotas
from tokenwire.models.store import Store

REFUSALS = (NotFound, FileTooLong, NotAwaited, AnswerRunning)
MS_OF_A_DAY, UNIX_EPOCH_JULIAN = 86_400_000, 2_440_587.5
_REAL_NAMES = {target: name for name, target in REMOTE.items()}
_UNORDERED = frozenset(
    {
        "to_cancel",
        "begun",
        "heads",
        "ended",
        "unannounced_rows",
        "unannounced_titles",
        "undeleted_logs",
        "unannounced_revocations",
    }
)
"""The order of the simulation's ids differs from the store's, so lists ordered by them compare as
sets.
"""
COLUMNS = {
    "m": (
        *(
            "id",
            "conversation_id",
            "ordinal",
            "role",
            "content",
            "reasoning",
            "tool_calls",
            "status",
            "epoch",
            "seq",
            "attempt",
            "rev",
        ),
        *(
            "announced_rev",
            "terminal_announced",
            "tries",
            "deaths",
            "started_with",
            "due_at",
            "enqueued_at",
            "created_at",
            "updated_at",
        ),
        *(
            "cancel_by",
            "finish_reason",
            "error",
            "usage",
            "seams",
            "model",
            "user_id",
            "parent_id",
            "run_id",
            "run_cursor",
        ),
        *("run_silent_since", "parts"),
        *("part_count", "open_text", "open_reasoning", "run_parts"),
        *("proven_parts", "rounds", "waits", "calls_rev"),
        *("while_running", "steers", "superseded_by"),
    ),
    "c": (
        "id",
        "user_id",
        "title",
        "model",
        "instructions",
        "rev",
        "announced_rev",
        "created_at",
        "updated_at",
        "message_count",
        "last_message_at",
    ),
}
"""What is compared of a row, by the first letter of its id: what the simulation keeps.

Not what is kept for providers: lists of rows leave that out."""
OF_CALLS = (
    *("message_id", "number", "id", "name", "title", "input", "ran_with", "runs_at", "state"),
    *("repeatable", "runs", "attempt", "result", "error", "expires_at", "approval"),
    *("created_at", "updated_at"),
)
OF_DECISIONS = (
    *("message_id", "number", "ordinal", "by", "at", "decision", "reason", "value", "runs"),
)
"""What is compared of a call, and of a decision. Keys are made up by the store."""


@dataclass(frozen=True, slots=True)
class Call:
    """One method of the store: when it took effect, and what came of it."""

    ms: int
    name: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    outcome: Any


class Recorded(Database):
    """The simulation's database, which remembers its calls."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.calls: list[Call] = []

    def _note_call(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        ms = self.now_ms()
        try:
            answer = getattr(Database, name)(self, *args, **kwargs)
        except REFUSALS as refusal:
            self.calls.append(Call(ms, _REAL_NAMES[name], args, kwargs, type(refusal).__name__))
            raise
        self.calls.append(Call(ms, _REAL_NAMES[name], args, kwargs, plain(answer)))
        return answer


def _recorded(name: str) -> Any:
    def method(self: Recorded, *args: Any, **kwargs: Any) -> Any:
        # What a method asks of another one is no call of its own.
        if "_asking" in self.__dict__:
            return getattr(Database, name)(self, *args, **kwargs)
        self.__dict__["_asking"] = True
        try:
            return self._note_call(name, args, kwargs)
        finally:
            del self.__dict__["_asking"]

    method.__name__ = name
    return method


for _name in _REAL_NAMES:
    if _name != "now_ms":
        setattr(Recorded, _name, _recorded(_name))


def plain(value: Any) -> Any:
    """An answer as what can be compared: rows as their columns."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "__dict__") and hasattr(value, "number"):
        columns = OF_CALLS if hasattr(value, "state") else OF_DECISIONS
        return {name: getattr(value, name) for name in columns}
    if is_dataclass(value) and not isinstance(value, type):
        return plain(
            asdict(value)
            if not _holds_rows(value)
            else {name: getattr(value, name) for name in value.__dataclass_fields__}
        )
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if hasattr(value, "__dict__") and hasattr(value, "id"):
        return {name: getattr(value, name) for name in COLUMNS[value.id[0]]}
    return value


def _holds_rows(value: Any) -> bool:
    fields = [getattr(value, name) for name in value.__dataclass_fields__]
    return any(
        hasattr(field, "id") or (isinstance(field, list) and field and hasattr(field[0], "id"))
        for field in fields
    )


async def differences(url: str, calls: Iterable[Call]) -> list[str]:
    """Repeat all calls on a store with the empty, migrated SQLite database at `url`; the differing
    results.
    """
    store = Store.open(url, quotas=Quotas(file_bytes=FILE_BYTES))
    clock, ids = SimpleNamespace(ms=0), deque[str]()
    event.listen(
        store._engine.sync_engine,
        "connect",
        lambda connection, _record: _set_clock(connection, clock),
    )
    real_uuid, found = conversations.uuid7, list[str]()
    conversations.uuid7 = ids.popleft  # type: ignore[assignment]
    try:
        for number, call in enumerate(calls, 1):
            clock.ms = call.ms
            ids.extend(_made(call))
            answer = await _answer(store, call)
            if _comparable(call.name, answer) != _comparable(call.name, call.outcome):
                found.append(
                    f"call {number}, {call.name}{call.args}\n  simulated: {call.outcome}\n  "
                    f"SQL:       {answer}"
                )
            ids.clear()
    finally:
        conversations.uuid7 = real_uuid
        await store.aclose()
    return found


def _set_clock(connection: Any, clock: SimpleNamespace) -> None:
    connection.create_function(
        "julianday", 1, lambda _when: clock.ms / MS_OF_A_DAY + UNIX_EPOCH_JULIAN
    )


def _made(call: Call) -> list[str]:
    """The ids that the store must make up in this call."""
    if call.outcome in ("NotFound", "AnswerRunning"):
        return ["unused"] * 2
    if call.name == "create_conversation":
        return [call.outcome["id"]]
    return (
        [call.outcome[row]["id"] for row in ("user_message", "assistant_message")]
        if call.name == "post"
        else []
    )


async def _answer(store: Store, call: Call) -> Any:
    try:
        return plain(await getattr(store, call.name)(*call.args, **call.kwargs))
    except REFUSALS as refusal:
        return type(refusal).__name__


def _comparable(name: str, answer: Any) -> Any:
    return sorted(answer, key=repr) if name in _UNORDERED else answer


assert set(OF_CALLS) <= set(tables.CallRow.model_fields)
assert set(OF_DECISIONS) <= set(tables.CallDecision.model_fields)
assert set(COLUMNS["m"]) <= set(tables.Message.model_fields)
assert set(COLUMNS["c"]) <= set(tables.Conversation.model_fields)
