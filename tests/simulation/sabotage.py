"""The project's safeguards, removed one by one: a simulation that does not notice proves nothing.

Each sabotage removes one rule from the code. `with SABOTAGES[name]():` applies to the schedules
inside.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

from tests.simulation import call_tables, database, store
from tests.simulation.call_tables import copy_of, is_unfinished
from tests.simulation.faults import Plan
from tests.simulation.net import Weather
from tokenwire.broadcaster import session
from tokenwire.models import unsaved
from tokenwire.protocol.events import AnyEvent, check_batch
from tokenwire.protocol.fold import Answer, Proof
from tokenwire.streams.hub.hub import Tail
from tokenwire.streams.hub.log_cursor import NEED_PAGE, LogCursor, LogTail
from tokenwire.streams.log import memory, ports
from tokenwire.worker import context
from tokenwire.worker.attempt import calling, draft, outcome, steering, work, writing
from tokenwire.worker.resume import takeover


@contextmanager
def no_fence() -> Iterator[None]:
    """The log accepts appends of an older attempt: a worker that was taken for dead continues to
    write.
    """

    def owned(state: Any, claim: ports.Claim) -> Any:
        found = state.answers.get(claim.message_id)
        if claim.epoch != state.epoch or found is None:
            raise ports.Lost
        return found

    async def append(
        self: memory.MemoryLog,
        claim: ports.Claim,
        index: int,
        covered: int,
        events: Sequence[AnyEvent],
    ) -> ports.Appended:
        state = self._settle(claim.conversation_id)
        found = owned(state, claim)
        if claim.attempt < found.attempt and not found.sealed:
            return self._write(claim.conversation_id, state, events)
        return await real(self, claim, index, covered, events)

    real = memory.MemoryLog.append
    with patch.object(memory, "_owned", owned), patch.object(memory.MemoryLog, "append", append):
        yield


@contextmanager
def no_fence_in_sql() -> Iterator[None]:
    """SQL takes the text of an older attempt."""

    def mine(self: database.Database, message_id: str, attempt: int) -> Any:
        row = self.messages.get(message_id)
        return row if row is not None and is_unfinished(row) else None

    with patch.object(database.Database, "_mine", mine):
        yield


@contextmanager
def no_idempotency() -> Iterator[None]:
    """A batch that is sent again, because its answer was lost, is appended again."""

    async def append(
        self: memory.MemoryLog,
        claim: ports.Claim,
        index: int,
        covered: int,
        events: Sequence[AnyEvent],
    ) -> ports.Appended:
        state = self._settle(claim.conversation_id)
        found = memory._owned(state, claim)
        if index == found.next_index - 1 and not check_batch(events):
            found.next_index = index
        return await real(self, claim, index, covered, events)

    real = memory.MemoryLog.append
    with patch.object(memory.MemoryLog, "append", append):
        yield


@contextmanager
def no_hand_over_to_live() -> Iterator[None]:
    """The hub trusts its pub/sub: messages published during its read, or during a break, are not
    read.
    """

    def take(self: Tail, payload: bytes) -> None:
        if (
            payload != b"gone"
            and int(payload.split(b":", 2)[1]) > self.top + 1
            and payload.split(b":", 1)[0].decode() == self.epoch
        ):
            self.top = int(payload.split(b":", 2)[1]) - 1
            self._ring.clear()
            self._ring_bytes = 0
        real(self, payload)

    def skipping(self: LogCursor, tail: LogTail) -> Any:
        found = next_(self, tail)
        last = tail.since(tail.top - 1)
        if found is NEED_PAGE and last and self.seq < tail.top:
            self.seq = tail.top - 1
            return last
        return found

    real, next_ = Tail.take, LogCursor.next
    with patch.object(Tail, "take", take), patch.object(LogCursor, "next", skipping):
        yield


@contextmanager
def live_before_the_replay_ends() -> Iterator[None]:
    """A reader is given what happens now before what it has missed."""

    def takes(self: session.SocketSession, before: int, *last: int) -> bool:
        if self.phase in (session.Phase.REPLAY, session.Phase.LIVE):
            self.seq = last[0] if last else before
            return True
        return False

    with patch.object(session.SocketSession, "takes", takes):
        yield


@contextmanager
def no_wait_for_what_is_out() -> Iterator[None]:
    """A cancel does not ask whether the batch on its way was appended."""

    def abandon(self: draft.Draft) -> None:
        self.abandon_unacknowledged()

    with patch.object(draft.Draft, "abandon_waiting", abandon):
        yield


@contextmanager
def checkpoints_ahead_of_the_log() -> Iterator[None]:
    """A checkpoint claims to reach further than its text: a snapshot then skips events that it does
    not contain.
    """

    def checkpoint(self: work.AttemptWork) -> Any:
        from dataclasses import replace

        saved = real(self)
        return replace(saved, seq=saved.seq + 1)

    real = work.AttemptWork.checkpoint
    with patch.object(work.AttemptWork, "checkpoint", checkpoint):
        yield


@contextmanager
def checkpoints_forget_closed_parts() -> Iterator[None]:
    """A checkpoint does not note that a text has ended: the next text takes its place."""

    def take(self: unsaved.UnsavedParts, answer: Answer) -> unsaved.PartsToSave:
        self._open &= {answer.open_text, answer.open_reasoning}
        return real(self, answer)

    real = unsaved.UnsavedParts.take
    with patch.object(unsaved.UnsavedParts, "take", take):
        yield


@contextmanager
def take_overs_forget_in_silence() -> Iterator[None]:
    """Nobody says what of an answer was kept by a worker that died before it could save it."""
    with patch.object(takeover, "mark_lost", lambda *_: None):
        yield


@contextmanager
def files_behind_their_events() -> Iterator[None]:
    """The event of a file does not wait until its bytes are stored."""

    async def store_files(self: writing.LogWriter) -> None:
        stored.append(asyncio.create_task(real(self)))  # type: ignore[arg-type]

    stored, real = list[asyncio.Task[None]](), writing.LogWriter._store_files
    with patch.object(writing.LogWriter, "_store_files", store_files):
        yield


@contextmanager
def proofs_of_text_alone() -> Iterator[None]:
    """A terminal event attests no other part than texts."""

    def proof(self: Answer) -> Proof:
        return real(self)._replace(parts_crc32=0)

    real = Answer.proof
    with patch.object(Answer, "proof", proof):
        yield


@contextmanager
def claims_of_calls_without_comparison() -> Iterator[None]:
    """A call is claimed whatever has become of it since it was read."""

    def claim(
        self: database.Database, message_id: str, attempt: int, number: int, _runs: int
    ) -> Any:
        row, call = self.messages.get(message_id), self.call_rows[message_id][number]
        if row is None or not is_unfinished(row):
            return None
        self._change(call, state="running", runs=call.runs + 1, attempt=attempt)
        return copy_of(call)

    with patch.object(database.Database, "claim_now", claim):
        yield


@contextmanager
def outcomes_shown_before_they_are_stored() -> Iterator[None]:
    """The model and readers get what a tool returned, and the row gets it afterwards, if ever."""

    async def finish(self: calling.Calling, call: Any, outcome: Any) -> None:
        fields = {"state": outcome.state, "result": outcome.result, "error": outcome.error}
        shown = {name: value for name, value in fields.items() if value is not None}
        self._work.draft.set_fields(call.number, shown)
        self._work.writer.wake()
        await self._work.writer.settle()
        await real(self, call, outcome)

    real = calling.Calling._finish
    with patch.object(calling.Calling, "_finish", finish):
        yield


@contextmanager
def lost_calls_run_again() -> Iterator[None]:
    """A call whose worker died runs again, whether or not it may."""

    def lost(**_: Any) -> dict[str, Any]:
        return {"state": "proposed"}

    with patch.object(call_tables, "lost", lost):
        yield


@contextmanager
def decisions_apply_twice() -> Iterator[None]:
    """A decision applies whatever the call awaits: also behind another one."""

    def fits(state: str, kind: str) -> bool:
        return state != "streaming" and bool(kind)

    with patch.object(call_tables, "fits", fits):
        yield


@contextmanager
def results_of_clients_replace_each_other() -> Iterator[None]:
    """The last of the results that clients give to a call applies, not the first."""

    def fits(state: str, kind: str) -> bool:
        given = kind in ("result", "error") and state in ("done", "failed")
        return given or real(state, kind)

    real = call_tables.fits
    with patch.object(call_tables, "fits", fits):
        yield


@contextmanager
def parks_that_miss_decisions() -> Iterator[None]:
    """An answer is parked whatever was decided since its calls were read."""

    def park(self: database.Database, item: Any, _billed: int, _rev: int) -> Any:
        row = self._mine(item.message_id, item.attempt)
        if row is None:
            return "lost"
        self._save(row, item, "park")
        self._set(row, status="waiting")
        return "parked"

    with patch.object(database.Database, "park_now", park):
        yield


@contextmanager
def cancels_that_forget_results() -> Iterator[None]:
    """A worker that is cancelled ends its answer without what the log lacks of the calls."""

    async def nothing(_self: Any) -> bool:
        return False

    with patch.object(outcome.Outcome, "_log_lacks_calls", nothing):
        yield


@contextmanager
def placeholders_that_stay() -> Iterator[None]:
    """A message that a step has brought keeps its placeholder, which is answered next."""
    with patch.object(database.Database, "end_placeholders", lambda *_: []):
        yield


@contextmanager
def ends_that_leave_placeholders() -> Iterator[None]:
    """Only the step ends placeholders: the end of an answer leaves what a crash has left."""
    with patch.object(database, "brought_by", lambda _part: ()):
        yield


@contextmanager
def placeholders_that_end_before_the_step() -> Iterator[None]:
    """A message is taken in before a step names it."""

    async def waiting(self: steering.TakingIn) -> Sequence[str]:
        found = await real(self)
        work = self._work
        who = work.row.id, work.draft.attempt
        for message_id in await work.services.store.take_in(*who, found) or ():
            await self._announce_end(message_id)
        return found

    real = steering.TakingIn.waiting
    with patch.object(steering.TakingIn, "waiting", waiting):
        yield


@contextmanager
def steps_that_do_not_name_messages() -> Iterator[None]:
    """The model gets a message, and nobody says so."""

    def step(self: draft.Draft, _ids: Sequence[str] = ()) -> None:
        real(self)

    real = draft.Draft.step
    with patch.object(draft.Draft, "step", step):
        yield


@contextmanager
def steered_messages_at_their_own_place() -> Iterator[None]:
    """Later answers get a message that steered behind the answer, not at its step."""
    with patch.object(context, "steering_in", lambda *_: set()):
        yield


@contextmanager
def requests_that_forget_steering() -> Iterator[None]:
    """The model gets no message that a step names."""

    async def nothing(*_: Any) -> dict[str, str]:
        return {}

    with patch.object(store.Store, "texts_of", nothing):
        yield


UNANSWERED = Plan(sql=Weather(lost=0.1, unanswered=0.3, slowest=0.01), faults=[(8.0, "cut_feed")])
"""The weather lasts until the last fault."""
IN_THE_TOOL = Plan(faults=[(0.2, "kill at: tool began"), (1.0, "kill at: tool began")])
SABOTAGES_OF_TOOLS: dict[str, tuple[Callable[[], AbstractContextManager[None]], Plan | None]] = {
    act.__name__: (act, plan)
    for act, plan in (
        (claims_of_calls_without_comparison, UNANSWERED),
        (outcomes_shown_before_they_are_stored, None),
        (lost_calls_run_again, IN_THE_TOOL),
        (decisions_apply_twice, None),
        (results_of_clients_replace_each_other, None),
        (parks_that_miss_decisions, Plan()),
        (cancels_that_forget_results, Plan(hasty=True)),
    )
}
"""They are searched for among schedules with tools. The plan: faults that bring them to light."""
IN_THE_STEP = Plan(faults=[(0.2, "kill at: step appended"), (1.0, "kill at: step stored")])
SABOTAGES_OF_STEERING: dict[str, tuple[Callable[[], AbstractContextManager[None]], Plan | None]] = {
    act.__name__: (act, plan)
    for act, plan in (
        (placeholders_that_stay, None),
        (ends_that_leave_placeholders, IN_THE_STEP),
        (placeholders_that_end_before_the_step, Plan()),
        (steps_that_do_not_name_messages, Plan()),
        (steered_messages_at_their_own_place, Plan()),
        (requests_that_forget_steering, Plan()),
    )
}
"""The same, of steering."""
SABOTAGES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    act.__name__: act
    for act in (
        no_fence,
        no_fence_in_sql,
        no_idempotency,
        no_hand_over_to_live,
        live_before_the_replay_ends,
        no_wait_for_what_is_out,
        checkpoints_ahead_of_the_log,
        checkpoints_forget_closed_parts,
        take_overs_forget_in_silence,
        files_behind_their_events,
        proofs_of_text_alone,
    )
}
