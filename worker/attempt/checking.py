"""Checks the document of an answer with a schema, and prepares its one repair.

Guarantees: what is stored as the answer's object fits its schema. The model is asked for a repair
at most once, however many workers die (`models/repairs.py`).

Why it works this way: the misfit leaves the answer by a `reset`, so the text of the answer is one
document or nothing. The request for the repair holds it, because the row does. To a worker that
continues after a crash, it is an answer that starts over.

Rejected: the misfit as a proven turn (its text would stay in front of the document); repairs until
it fits (a model that cannot would spend the budget).
"""

from collections.abc import Callable

import structlog

from tokenwire.providers.base import Request
from tokenwire.worker import schemas
from tokenwire.worker.attempt.costs import BudgetExhausted
from tokenwire.worker.attempt.structured import Misfitting, document_in
from tokenwire.worker.attempt.work import AttemptWork
from tokenwire.worker.outages import outlast

log_line = structlog.get_logger(__name__)


class Checking:
    """The document of one attempt."""

    def __init__(self, work: AttemptWork) -> None:
        self._work = work

    async def repairs(self, ask: Callable[[Request], bool]) -> bool:
        """Check the document. True: it is to be repaired, and `ask` has taken the request."""
        work = self._work
        schema = work.row.response_schema
        if schema is None:
            return False
        text = document_in(work.draft.answer.parts)
        found = await schemas.check(schema, text, work.user_id)
        work.document = found
        if not found.errors:
            return False
        misfit = Misfitting(text, found.errors)
        log_line.warning("a document breaks its schema", message_id=work.row.id)
        if not work.is_misfit or work.row.misfit is not None:
            return False
        return await self._prepare(misfit, ask)

    async def _prepare(self, misfit: Misfitting, ask: Callable[[Request], bool]) -> bool:
        work, draft = self._work, self._work.draft
        start, stored = draft.held.turn_start, misfit.stored()
        request = await outlast(work.row.id, lambda: work.request(start, misfit=stored))
        try:
            work.billing.count(request)
        except BudgetExhausted:
            return False
        draft.forget_run()  # it would repeat the misfit
        checkpoint = work.checkpoint()
        store = work.services.store
        if not await outlast(work.row.id, lambda: store.begin_repair(checkpoint, stored)):
            work.writer.disown()
            return False
        work.saved(checkpoint)
        work.row.misfit = stored
        return ask(request)
