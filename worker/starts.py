"""Starts of an answer that met a bug: after some of them in a row, the answer ends.

A bug that an answer meets each time must not bring its job back for ever.
"""

from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Message
from tokenwire.protocol.events import INTERNAL_ERROR
from tokenwire.worker import closing
from tokenwire.worker.deaths import MAX_DEATHS, MAX_FAILED_STARTS
from tokenwire.worker.operators import facts_of
from tokenwire.worker.retries import WorkersDied
from tokenwire.worker.services import WorkerServices

_CODE = INTERNAL_ERROR["code"]


async def fail_start(services: WorkerServices, row: Message, starts: int, error: Exception) -> None:
    """Count an attempt that raised an unexpected error. `starts`: its starts so far."""
    if starts <= MAX_FAILED_STARTS and not isinstance(error, WorkersDied):
        return
    now = await services.store.message(row.id)
    if now is None or not unfinished(now):
        return
    services.notify_operators(error, facts_of(error, _CODE, row.id, model=row.model))
    await closing.end_failed(services.store, services.log, now, INTERNAL_ERROR)
    await closing.start_next(services.store, services.jobs, row.conversation_id)


async def fail_to_read(services: WorkerServices, message_id: str, error: Exception) -> None:
    """The same for a row that the database cannot read: the end is written without reading it.

    Operators are notified first: a row that cannot be read may refuse its end, too.
    """
    store = services.store
    if await store.count_start(message_id) <= MAX_FAILED_STARTS:
        return
    services.notify_operators(error, facts_of(error, _CODE, message_id))
    conversation_id = await store.end_unread(message_id, INTERNAL_ERROR)
    if conversation_id is not None:
        await closing.start_next(store, services.jobs, conversation_id)


def require_not_deadly(row: Message) -> None:
    """Raises WorkersDied if workers died before they began: this worker would die, too."""
    if row.deaths > MAX_DEATHS:
        raise WorkersDied(f"{row.deaths} workers died in a row, the last of them before it began")
