"""What an attempt begins with: the plan chooses the rung, the draft follows. No I/O."""

from dataclasses import dataclass, replace

from tokenwire.config.terms import AnswerTerms
from tokenwire.models.parts import answer_of
from tokenwire.models.tables import Message
from tokenwire.models.unsaved import UnsavedParts
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.kept import is_lost
from tokenwire.protocol.prices import Prices
from tokenwire.providers.base import Continuation
from tokenwire.providers.spec import Rung
from tokenwire.worker.attempt.draft import Draft, StartingPoint
from tokenwire.worker.attempt.usage import Reported
from tokenwire.worker.resume.continuation import (
    Held,
    Plan,
    Run,
    is_attachable,
    lost_in,
    plan,
)


@dataclass(frozen=True, slots=True)
class PlannedAttempt:
    """How an attempt goes on from what readers hold.

    `saved`: the answer as the row has it. `run`: the provider's run that it attaches to, or None.
    `unpaid`: units of text whose request reported no tokens; None: there is no such request.
    """

    row: Message
    held: Held
    saved: Answer
    plan: Plan
    run: Run | None
    unpaid: int | None

    @property
    def kept_units(self) -> int:
        """Units of text that the attempt begins with. Text that it withdraws does not count."""
        parts = self.held.answer.parts
        kept = parts if self.plan.keeps else parts[: self.held.turn_start]
        return sum(part.units for part in kept)

    @property
    def continuation(self) -> Continuation | None:
        """The text of the present turn that readers hold, for a request that continues it."""
        turn = self.held.answer.parts[self.held.turn_start :]
        content = "".join([part.text for part in turn if part.type == "text"])
        if self.run is not None:
            return Continuation("attach", content, self.run.id, self.run.cursor)
        if self.plan.rung in ("prefix", "turn"):
            return Continuation(self.plan.rung, content)
        return None

    @property
    def newly_lost(self) -> list[int]:
        """Numbers of the parts whose kept values may have gone with the previous worker."""
        if not self.plan.keeps or self.run is not None:
            return []
        before = {number for number, part in enumerate(self.saved.parts) if is_lost(part)}
        now = (number for number, part in enumerate(self.held.answer.parts) if is_lost(part))
        return [number for number in now if number not in before]

    @property
    def _continues(self) -> bool:
        """Whether another request goes on with the text."""
        return self.run is None and self.continuation is not None

    def draft(self, attempt: int, terms: AnswerTerms, prices: Prices | None = None) -> Draft:
        """The draft that the attempt begins with. Text of the present turn that is not resumed is
        withdrawn. `prices`: of its model.
        """
        draft = Draft(self.held, attempt, self._starting_point(prices), terms)
        if self.plan.keeps and self.run is None:  # a run repeats what is behind its offset
            for number in lost_in(self.held):
                draft.drop(number)
            if self._continues:
                draft.end_turn()
        elif not self.plan.keeps and self.plan.rung != "fresh":
            draft.withdraw()
        return draft

    def _starting_point(self, prices: Prices | None) -> StartingPoint:
        reported = Reported.of(self.row.reported)
        if self.run is None:
            reported = replace(reported.next_request(), prices=prices)
        return StartingPoint(
            unsaved=UnsavedParts.following(self.row, self.saved, self.held.answer),
            seams=self._seams(),
            run=self.run,
            continues=self._continues,
            reported=reported,
            unpaid=self.unpaid if self.run is None else None,
        )

    def _seams(self) -> list[int]:
        """The seams of earlier attempts, and the one that a new request leaves."""
        seams, end = list(self.row.seams or ()), self.held.answer.content_units
        if not self.plan.keeps:
            return seams  # those of the present turn go with its text
        is_new_request = self.run is None and self.plan.rung != "resume"
        return [*seams, end] if end and is_new_request else seams


def plan_attempt(row: Message, held: Held, best_rung: Rung) -> PlannedAttempt:
    """The plan for an answer of which readers hold `held`; `best_rung` is its model's best rung."""
    saved = answer_of(row)
    run = _saved_run(row, saved)
    chosen = plan(
        best_rung,
        held,
        must_be_json=row.response_schema is not None,
        attachable=is_attachable(run, saved, held.answer, held.turn_start),
    )
    attached = run if chosen.rung == "attach" else None
    return PlannedAttempt(row, held, saved, chosen, attached, _unpaid(row, held))


def _unpaid(row: Message, held: Held) -> int | None:
    """What the attempt before brought without a report of its tokens."""
    if row.attempt <= 1 or "input_tokens" in Reported.of(row.reported).now:
        return None
    proven = sum(part.units for part in held.answer.parts[: row.proven_parts])
    return max(0, held.answer.units - max(row.started_with, proven))


def _saved_run(row: Message, saved: Answer) -> Run | None:
    """The run that the row names. If the row has no offset in it, the end of `saved` is used."""
    if row.run_id is None:
        return None
    if row.run_parts is None or row.run_text is None or row.run_reasoning is None:
        place = len(saved.parts), saved.content_units, saved.reasoning_units
    else:
        place = row.run_parts, row.run_text, row.run_reasoning
    return Run(row.run_id, row.run_cursor, *place)
