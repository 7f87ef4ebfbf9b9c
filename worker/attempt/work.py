"""What one attempt works on: its answer, its draft and its way into the log."""

from dataclasses import dataclass

from tokenwire.models.answers import Checkpoint
from tokenwire.models.tables import Message as Row
from tokenwire.providers.base import ProviderError, Request
from tokenwire.worker import context
from tokenwire.worker.attempt.billing import Billing
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.named_run import NamedRun
from tokenwire.worker.attempt.writing import LogWriter
from tokenwire.worker.resume.continuation import is_paused
from tokenwire.worker.services import AttemptTerms, WorkerServices


@dataclass(slots=True)
class Work:
    """What the parts of an attempt share. `request`: what was asked first (None: nothing yet)."""

    services: WorkerServices
    row: Row
    terms: AttemptTerms
    draft: Draft
    writer: LogWriter
    run: NamedRun
    billing: Billing
    request: Request | None = None

    def checkpoint(self) -> Checkpoint:
        """What SQL should hold now."""
        draft = self.draft
        held, run = draft.checkpoint(), draft.run
        return Checkpoint(
            message_id=self.row.id,
            attempt=draft.attempt,
            content=held.text,
            reasoning=held.reasoning,
            tool_calls=list(held.tool_calls) or None,
            epoch=self.writer.claim.epoch,
            seq=held.seq,
            run_id=run.id if run else None,
            run_cursor=run.cursor if run else None,
            run_text=run.text if run else None,
            run_reasoning=run.reasoning if run else None,
            run_silent_since=None if draft.emitted else self.row.run_silent_since,
            kept=draft.checkpoint_kept(),
            reported=draft.reported.stored(),
            saves=draft.saves,
        )

    def saved(self, checkpoint: Checkpoint) -> None:
        """SQL holds this checkpoint."""
        self.draft.saved(checkpoint.kept)
        self.writer.saved(checkpoint)

    @property
    def paused(self) -> bool:
        """Whether the answer ends where its provider has paused the turn."""
        return is_paused(self.draft.kept() or (), self.draft.held())

    def resuming(self, request: Request) -> Request:
        """The request that resumes the paused turn."""
        return context.resuming(request, self.draft.held().text, self.draft.kept() or ())

    def notify_operators(self, error: BaseException, code: str) -> None:
        """Somebody must look at this error."""
        bug = not isinstance(error, ProviderError)
        facts = {"message_id": self.row.id, "model": self.row.model, "code": code, "bug": bug}
        self.services.notify_operators(error, facts)
