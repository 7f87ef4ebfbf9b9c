"""What one attempt works on: its answer, its draft and its way into the log."""

from dataclasses import dataclass, replace

from tokenwire.models.answers import Checkpoint
from tokenwire.models.parts import open_texts
from tokenwire.models.tables import Message as Message
from tokenwire.providers.base import HistoryMessage, Request
from tokenwire.providers.spec import Rung
from tokenwire.worker.attempt.billing import Billing
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.named_run import NamedRun
from tokenwire.worker.attempt.writing import LogWriter
from tokenwire.worker.history import history_of
from tokenwire.worker.operators import facts_of
from tokenwire.worker.resume.continuation import is_paused
from tokenwire.worker.services import WorkerServices


@dataclass(slots=True)
class AttemptWork:
    """What the parts of an attempt share.

    `best_rung`: the best rung of the answer's model. `request`: what was asked first, or None.
    """

    services: WorkerServices
    row: Message
    best_rung: Rung
    draft: Draft
    writer: LogWriter
    named_run: NamedRun
    billing: Billing
    request: Request | None = None

    def checkpoint(self) -> Checkpoint:
        """The state that SQL should hold now."""
        draft = self.draft
        answer, run = draft.answer, draft.run
        content, reasoning = open_texts(answer)
        changes, save = draft.checkpoint()
        return Checkpoint(
            message_id=self.row.id,
            attempt=draft.attempt,
            content=content,
            reasoning=reasoning,
            epoch=self.writer.claim.epoch,
            seq=draft.seq,
            run_id=run.id if run else None,
            run_cursor=run.cursor if run else None,
            run_parts=run.parts if run else None,
            run_text=run.text if run else None,
            run_reasoning=run.reasoning if run else None,
            run_silent_since=None if draft.emitted else self.row.run_silent_since,
            reported=draft.reported.stored(),
            saves=save,
            part_count=len(answer.parts),
            open_text=answer.open_text,
            open_reasoning=answer.open_reasoning,
            changes=changes,
        )

    def saved(self, checkpoint: Checkpoint) -> None:
        """SQL holds this checkpoint."""
        self.draft.saved(checkpoint.saves)
        self.writer.saved(checkpoint)

    @property
    def paused(self) -> bool:
        """Whether the answer ends with a paused turn."""
        return is_paused(self.draft.answer)

    def resuming(self, request: Request) -> Request:
        """The request that resumes the paused turn: the whole turn is its last message."""
        turn = HistoryMessage("assistant", history_of(self.draft.answer.parts, {}))
        return replace(request, messages=[*request.messages, turn], continuation=None)

    def notify_operators(self, error: BaseException, code: str) -> None:
        """Notify operators of an error."""
        facts = facts_of(error, code, self.row.id, model=self.row.model)
        self.services.notify_operators(error, facts)
