"""Pure: what an attempt took from its provider, and how much of it the log has acknowledged.

    take(deltas) -> batch() -> (append) -> acknowledged(seq) -> ... -> answer

Deltas go in, batches of events come out. At most one batch is under way. Deltas that arrive
meanwhile leave with the next batch, and adjoining pieces are joined: load merges tokens, no timer
delays them. A checkpoint holds acknowledged parts only. `run` decides when to append, to save a
checkpoint and to give up; this module never waits.

There are two folds of the answer: what was taken (`PartsTaken`), and what the log has (`answer`).
A run that is attached to repeats text that readers already hold. Then nothing leaves until what was
taken has caught up with what readers hold.

Rejected: batches as the difference of the two folds (each would compare whole texts).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenwire.config.terms import AnswerTerms
from tokenwire.models.unsaved import PartsToSave, UnsavedParts
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.replay import catch_up
from tokenwire.protocol.text import fits
from tokenwire.providers import base as deltas
from tokenwire.worker.attempt.parts import (
    PIECE_CHARS,
    DraftItem,
    FileOfPart,
    KeptOfPart,
    PartsTaken,
)
from tokenwire.worker.attempt.run_place import RunPlace
from tokenwire.worker.attempt.sizes import PART_COST
from tokenwire.worker.attempt.usage import Reported
from tokenwire.worker.resume.continuation import Held, Run, as_of

MAX_RUN_ID_CHARS = 255
"""The width of its column. A longer name cannot be stored, and a cut one would be useless."""
_REFUSED = {"url": None, "dropped": True}
"""The change of a file part whose bytes are too many."""


@dataclass(slots=True)
class _Waiting:
    """A piece that waits for its append, with the pieces that were joined to it."""

    first: events.Piece
    texts: list[str]
    size: int

    def takes(self, piece: events.Piece) -> bool:
        """Join a piece that continues this one. Returns False if one event has no room for both."""
        size = self.size + len(piece.content)
        first = self.first
        if type(piece) is type(first) and piece.part == first.part and size <= PIECE_CHARS:
            self.texts.append(piece.content)
            self.size = size
            return True
        return False

    def event(self) -> events.AnyEvent:
        first = self.first
        text = "".join(self.texts)
        return type(first)(first.message_id, first.attempt, first.offset, text, first.part)


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """What an attempt knows of those before it, besides what readers hold.

    `unsaved`: which parts of that the database lacks. `run`: the provider's run to attach to.
    `continues`: a new request goes on with the text. `unpaid`: units of text whose request reported
    no tokens; None: there is no such request.
    """

    unsaved: UnsavedParts = field(default_factory=UnsavedParts)
    seams: Sequence[int] = ()
    run: Run | None = None
    continues: bool = False
    reported: Reported = field(default_factory=Reported)
    unpaid: int | None = None


class Draft:
    """What an attempt has taken and appended. `held`: what readers hold already, which this attempt
    continues. `held` and `start` belong to the draft from now on.
    """

    def __init__(
        self,
        held: Held,
        attempt: int,
        start: StartingPoint | None = None,
        terms: AnswerTerms | None = None,
    ) -> None:
        start = start or StartingPoint()
        self.answer = held.answer
        """The answer as readers hold it: everything that was acknowledged."""
        self.message_id = held.answer.id
        self.attempt = attempt
        self.seams = list(start.seams)
        self.finish: deltas.Finish | None = None
        self.reported = start.reported
        """What this answer's requests have reported of their tokens."""
        self._unpaid = start.unpaid
        self.seq = held.seq
        self.emitted = self.answered = False
        """Whether readers got anything from this attempt; whether the provider sent anything."""
        self.added = self._added_proven = self._added_reported = 0
        """Units of text that this attempt has added to what readers hold; those of them that are
        proven, and those whose request has reported its tokens.
        """
        self.proven = held.proven
        """How many leading parts belong to proven turns: acknowledged, and never withdrawn."""
        self._unsaved = start.unsaved
        run = start.run
        self._place = RunPlace(run)
        self._catches_up = run is not None
        taken = held.answer.copy() if run is None else as_of(held.answer, run)
        self._taken = PartsTaken(
            taken, attempt, terms, turn_start=held.turn_start, continues=start.continues
        )
        self._refused = False
        self._pending: list[_Waiting | DraftItem] = []
        self._pending_chars = 0
        self._out: list[DraftItem] = []
        self._uncheckpointed = 0

    # --- deltas in ---

    def take(self, batch: Iterable[deltas.Delta]) -> None:
        """Take deltas from the provider."""
        self.answered = True
        for delta in batch:
            if self.at_limit:
                break
            match delta:
                case deltas.TextDelta(text) if not self._catches_up and (
                    piece := self._taken.extend(text)
                ):
                    self._put_piece(piece)
                case deltas.UsageDelta():
                    self.reported = self.reported.corrected(deltas.counts_of(delta))
                case deltas.Finish():
                    self.finish = delta
                case _:
                    self._take(delta)
        if self.at_limit:
            self.finish = deltas.Finish("length")
        self._catch_up()

    def _take(self, delta: deltas.Delta) -> None:
        match delta:
            case deltas.RefusalDelta():
                self._refused = True
            case deltas.Restart():
                self._forget_turn()
        self._queue(self._taken.take(delta))

    @property
    def at_limit(self) -> bool:
        """Whether the answer has reached its limits."""
        return self._taken.at_limit

    @property
    def not_kept(self) -> Mapping[int, str]:
        """Why a value of the provider was not kept, by number of its part."""
        return self._taken.not_kept

    def reached(self, run_id: str, cursor: int | None) -> None:
        """Note that the provider's run can be attached to behind everything that was taken so far.

        It cannot be resumed within a character, a reasoning or a tool call. Nor can it be resumed
        behind parts whose kept values a run is still repeating.
        """
        if not fits(run_id, MAX_RUN_ID_CHARS) or not self._taken.between_parts:
            return
        taken = self._taken.answer
        pairs = zip(taken.parts, self.answer.parts, strict=False)
        if self._catches_up and any(mine.kept != held.kept for mine, held in pairs):
            return
        place = len(taken.parts), taken.content_units, taken.reasoning_units
        self._place.reach(Run(run_id, cursor, *place), idle=self.idle)

    @property
    def run(self) -> Run | None:
        """The provider's run, at the last cursor that is within the acknowledged text."""
        return self._place.acknowledged

    def forget_run(self) -> None:
        """Forget the run: it could not be attached to, and that is not tried again."""
        self._place.forget()

    @property
    def taken(self) -> Answer:
        """The answer with everything that waits to be appended."""
        return self._taken.answer

    def add(self, event: events.AnyEvent) -> None:
        """Queue an event of the worker itself (`start`, `retry`, `wait`) behind all that waits."""
        self._put(event)

    def withdraw(self) -> None:
        """Withdraw everything that readers hold of the present turn."""
        self._forget_turn()
        self._put(self._taken.reset())

    def _forget_turn(self) -> None:
        """Forget the seams of the present turn, and the run, whose cursor is in its text."""
        before = self.answer.parts[: self.held.turn_start]
        end = sum(part.units for part in before if part.type == "text")
        self.seams = [seam for seam in self.seams if seam <= end]
        self.forget_run()

    def drop(self, number: int) -> None:
        """Mark the kept value of this part as lost."""
        self._put(self._taken.drop(number))

    def end_turn(self) -> None:
        """Note that another turn follows: a new request continues the answer."""
        self._queue(self._taken.end_turn())

    def flush(self) -> None:
        """Release everything that waits for more, because the provider is done."""
        self._queue(self._taken.flush())
        self._catch_up()

    def prove(self) -> None:
        """Note that the turn is whole. Everything that was taken is acknowledged by now."""
        self.proven = len(self.answer.parts)
        self._added_proven = self.added
        self._taken.prove()
        self.forget_run()  # it is over

    def step(self, message_ids: Sequence[str] = ()) -> None:
        """Prepare for another request, which continues behind a proven turn. `message_ids`: users'
        messages that come with it.
        """
        self._queue(self._taken.step(message_ids))

    def leave_calls(self) -> None:
        """Note that the answer ends with calls that others execute, whatever its provider said."""
        self.finish = deltas.Finish("tool_calls")

    def set_fields(self, number: int, fields: Mapping[str, Any]) -> None:
        """Set fields of a part; null removes one."""
        self._put(self._taken.set_fields(number, fields))

    def count_lost(self, billed: int) -> None:
        """Count the request of the attempt before, if it was billed and reported nothing. `billed`:
        input tokens of all requests so far, reported or estimated.
        """
        if self._unpaid is not None:
            self.reported = self.reported.with_lost(billed, self._unpaid)
            self._unpaid = None

    def next_request(self) -> None:
        """Prepare for another request, which continues the answer."""
        self.finish, self.answered = None, False
        if self.reported.now:
            self._added_reported = self.added
        self.reported = self.reported.next_request()

    @property
    def unreported(self) -> int:
        """Units of text of this attempt that no earlier request has reported as tokens."""
        return self.added - self._added_reported

    def _queue(self, items: Iterable[DraftItem]) -> None:
        for item in items:
            if not self._catches_up:
                self._put(item)

    def _put(self, item: DraftItem) -> None:
        if isinstance(item, KeptOfPart) and self.idle:
            self._apply(item)
            return
        if isinstance(item, events.Piece):
            self._put_piece(item)
        else:
            self._pending_chars += _weight(item)
            self._pending.append(item)

    def _put_piece(self, piece: events.Piece) -> None:
        size = len(piece.content)
        self._pending_chars += size
        last = self._pending[-1] if self._pending else None
        if not (isinstance(last, _Waiting) and last.takes(piece)):
            self._pending.append(_Waiting(piece, [piece.content], size))

    def _catch_up(self) -> None:
        """Release what waits, once the run has repeated everything that readers hold."""
        taken = self._taken.answer
        if not self._catches_up or _is_behind(taken, self.answer):
            return
        self._catches_up = False
        self._settle_files()
        for event in catch_up(self.answer, taken, self.attempt):
            self._put(event)
        held = self.answer.parts
        for number, part in enumerate(taken.parts):
            if part.kept is not None or (number < len(held) and held[number].kept is not None):
                self._put(KeptOfPart(number, part.kept))

    def _settle_files(self) -> None:
        """Forget bytes of files that readers hold: they are stored, or were refused."""
        for number, part in enumerate(self.answer.parts):
            file = self._taken.files.pop(number, None) if part.type == "file" else None
            if file is not None and "url" not in part.fields:
                self._taken.answer.parts[number].merge(_REFUSED)

    # --- files ---

    def unstored_files(self) -> Mapping[int, FileOfPart]:
        """The bytes of waiting file parts, by number. Store them before the next batch."""
        return dict(self._taken.files)

    def file_stored(self, number: int) -> None:
        """The file's bytes are stored, so its event may be appended."""
        self._taken.files.pop(number, None)

    def file_refused(self, number: int) -> None:
        """The file is too long. Its event says that the bytes are lost, and has no address."""
        del self._taken.files[number]
        self._taken.answer.parts[number].merge(_REFUSED)
        for event in self._pending:
            if isinstance(event, events.PartEvent) and event.part == number:
                self._pending_chars -= _weight(event)
                if event.value.pop("url", None) is not None:  # else a later event changes the part
                    event.value["dropped"] = True
                self._pending_chars += _weight(event)

    # --- batches out ---

    @property
    def pending_chars(self) -> int:
        """Characters taken and not yet acknowledged. Parts without text count as some."""
        return self._pending_chars

    @property
    def idle(self) -> bool:
        """Whether nothing waits and no batch is under way."""
        return not self._pending and not self._out

    def batch(self) -> list[events.AnyEvent]:
        """The next batch. Returns the same batch again until `acknowledged` is called."""
        if not self._out:
            self._out = [
                item.event() if isinstance(item, _Waiting) else item for item in self._pending
            ]
            self._pending = []
            self._place.send()
        return [item for item in self._out if not isinstance(item, KeptOfPart)]

    def acknowledged(self, last_seq: int) -> None:
        """The log holds the batch. Its last event has this seq."""
        for item in self._out:
            self._apply(item)
            self._pending_chars -= _weight(item)
        self._out = []
        while self._pending and isinstance(kept := self._pending[0], KeptOfPart):
            self._apply(kept)
            del self._pending[0]
        self._place.acknowledge(idle=not self._pending)
        self.seq = last_seq

    def _apply(self, item: DraftItem) -> None:
        if isinstance(item, KeptOfPart):
            if self.answer.parts[item.part].kept != item.value:
                self.answer.parts[item.part].kept = item.value
                self._unsaved.touched((item.part,))
                self._uncheckpointed += 1
            return
        touched = self.answer.apply(item)
        self._unsaved.applied(item, touched)
        if isinstance(item, events.Piece):
            self.emitted = True
            self.added += len(item.content)
            self._uncheckpointed += len(item.content)
        elif isinstance(item, events.PartEvent | events.Reset):
            self._uncheckpointed += 1
            if isinstance(item, events.Reset):
                self.added = self._added_proven
                self._added_reported = min(self._added_reported, self.added)

    def abandon_waiting(self) -> None:
        """Drop what waits. The batch under way is kept: it may be in the log already."""
        self._pending = []
        self._place.drop_waiting()

    def abandon_unacknowledged(self) -> None:
        """Drop what waits and the batch under way."""
        self._pending, self._out, self._pending_chars = [], [], 0
        self._place.drop_unacknowledged()

    def adopted(self, last_seq: int) -> None:
        """A new log got everything that was acknowledged. The batch under way follows it."""
        self.seq = last_seq

    # --- storage and end ---

    @property
    def held(self) -> Held:
        """The answer that readers hold, its seq, and how much of it is proven."""
        return Held(self.answer, self.seq, self.proven)

    @property
    def uncheckpointed(self) -> int:
        """Characters acknowledged since the last checkpoint. Other changes count as some."""
        return self._uncheckpointed

    def checkpoint(self) -> tuple[PartsToSave, int]:
        """The parts for the next checkpoint, and its number. They count as saved from now on."""
        self._uncheckpointed = 0
        changes = self._unsaved.take(self.answer)
        return changes, self._unsaved.saves

    def saved(self, save: int) -> None:
        """The database holds the checkpoint with this number."""
        self._unsaved.saved(save)

    def not_saved(self) -> None:
        """The last checkpoint failed: its changes are unsaved again."""
        self._uncheckpointed += 1

    def finish_reason(self) -> events.CompleteReason:
        """The provider's reason in the protocol's words."""
        reason = self.finish.reason if self.finish else "unknown"
        if self._refused and reason == "stop":
            return "refusal"
        return "unknown" if reason == "error" else reason


def _weight(item: "DraftItem | _Waiting") -> int:
    """The weight of an item in characters. It limits how far a provider runs ahead of the log."""
    if isinstance(item, events.Piece):
        return len(item.content)
    if not isinstance(item, events.PartEvent):
        return 0
    texts = sum(len(value) for value in item.value.values() if isinstance(value, str))
    return PART_COST + texts + (item.value.get("size") or 0)


def _is_behind(taken: Answer, held: Answer) -> bool:
    """Whether a run that is read again may not have repeated yet what readers hold."""
    if len(taken.parts) != len(held.parts):
        return len(taken.parts) < len(held.parts)
    pairs = [(mine.units, other.units) for mine, other in zip(taken.parts, held.parts, strict=True)]
    return all(mine <= other for mine, other in pairs) and any(
        mine < other for mine, other in pairs
    )
