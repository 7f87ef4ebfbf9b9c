"""What one attempt works on: its answer, its draft and its way into the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenwire.models.answers import Checkpoint
from tokenwire.models.parts import open_texts
from tokenwire.models.tables import Message as Message
from tokenwire.protocol.fold import Part
from tokenwire.providers.base import Continuation, Request
from tokenwire.providers.spec import Rung
from tokenwire.worker import context
from tokenwire.worker.attempt.billing import Billing
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.named_run import NamedRun
from tokenwire.worker.attempt.structured import JUDGED, with_repair
from tokenwire.worker.attempt.writing import LogWriter
from tokenwire.worker.operators import facts_of
from tokenwire.worker.resume.continuation import last_round
from tokenwire.worker.schemas import Document
from tokenwire.worker.services import WorkerServices
from tokenwire.worker.tools.toolbox import NO_TOOLS, AnswerTools


@dataclass(slots=True)
class AttemptWork:
    """What the parts of an attempt share.

    `best_rung`: the best rung of the answer's model. `question`: what each turn is asked, the
    conversation before the answer (None: nothing is asked). `tools`: those that the answer may use.
    `document`: the text that was checked against the answer's schema. `next_model`: answers if the
    answer's model cannot.
    """

    services: WorkerServices
    row: Message
    best_rung: Rung
    draft: Draft
    writer: LogWriter
    named_run: NamedRun
    billing: Billing
    next_model: str | None = None
    question: Request | None = None
    tools: AnswerTools = NO_TOOLS
    document: Document | None = None

    @property
    def user_id(self) -> str:
        """Who asked: calls and checks of schemas share what there is by user."""
        return self.row.charged_to or ""

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
            proven_parts=draft.proven,
            part_count=len(answer.parts),
            open_text=answer.open_text,
            open_reasoning=answer.open_reasoning,
            changes=changes,
        )

    @property
    def is_misfit(self) -> bool:
        """Whether the turn ended by itself, and its document breaks the schema."""
        found = self.document
        return bool(found and found.errors) and self.draft.finish_reason() in JUDGED

    def saved(self, checkpoint: Checkpoint) -> None:
        """SQL holds this checkpoint."""
        self.draft.saved(checkpoint.saves)
        self.writer.saved(checkpoint)

    async def request(
        self,
        start: int,
        continuation: Continuation | None = None,
        misfit: Mapping[str, Any] | None = None,
        steering: Sequence[str] = (),
    ) -> Request:
        """The request for the turn that begins at part `start`: the parts before are its last
        messages. `misfit`: what is to be repaired, if the row does not hold it yet. `steering`:
        ids of messages that come with the step in front of the turn.

        Raises StoreUnavailable.

        A paused turn goes back with its values only if it continues behind the pause. Behind text
        of the present turn they would lack those of that text, and its provider refuses half.
        """
        question = self.question or Request(())
        parts = [part.copy() for part in self.draft.answer.parts[:start]]
        if continuation is not None and continuation.rung != "attach":
            for part in parts[last_round(parts) :]:
                part.kept = None
        if steering:
            parts.append(Part("step", {"message_ids": steering}))
        store, wanted, brought = (
            self.services.store,
            context.files_of(self.row.id, parts),
            context.brought_in(parts),
        )
        files = await store.files(wanted) if wanted else {}
        texts = await store.texts_of(brought) if brought else {}
        before = context.turns_before(self.row.id, parts, files, texts)
        misfit = misfit or self.row.misfit
        return replace(
            question,
            messages=[*question.messages, *with_repair(before, misfit)],
            continuation=continuation,
            tool_choice=_tool_choice(question, start, repairs=misfit is not None),
        )

    def notify_operators(self, error: BaseException, code: str) -> None:
        """Notify operators of an error."""
        facts = facts_of(error, code, self.row.id, model=self.row.model)
        self.services.notify_operators(error, facts)


def _tool_choice(question: Request, start: int, *, repairs: bool) -> str | None:
    """The choice is for the first turn alone: a model that must call in each turn never ends."""
    if repairs and question.tools:
        return "none"
    return None if start else question.tool_choice
