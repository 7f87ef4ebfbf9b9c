"""The request of an attempt: the provider of its model, and the conversation so far."""

from collections.abc import Sequence

from tokenwire.models.errors import HistoryTooLong, NotFound
from tokenwire.models.store import Store
from tokenwire.models.tables import Message
from tokenwire.providers.base import (
    ContextLengthExceeded,
    Interrupted,
    InvalidRequest,
    ModelNotFound,
    Provider,
    Request,
    Tool,
)
from tokenwire.worker import context
from tokenwire.worker.attempt.costs import BudgetExhausted
from tokenwire.worker.deaths import MAX_DEATHS
from tokenwire.worker.planning import PlannedAttempt
from tokenwire.worker.retries import WorkersDied
from tokenwire.worker.services import Models

MAX_ATTEMPTS = 50
"""Attempts of one answer, whatever they added. After that it ends as failed. Attempts that ended
because the answer waited do not count.
"""
MAX_ATTACHES = 500
"""The same while attempts attach to a run, which is free. An hour of silence needs fewer."""


async def ask(
    store: Store, models: Models, tools: Sequence[Tool], planned: PlannedAttempt
) -> tuple[Provider, Request]:
    """The provider and its request. Answers in listed conversations may use these tools.

    A program that asks over OpenAI's API gets an answer without them: it would wait for an approval
    that it cannot give.

    Raises ProviderError or WorkersDied if there is none, and StoreUnavailable.
    """
    spec = models.catalogue.models.get(planned.row.model or "")
    if spec is None:
        raise ModelNotFound(f"{planned.row.model} is not in the catalogue")
    _require_hope(planned)
    return models.open(spec), await _request(store, models, tools, planned)


def _require_hope(planned: PlannedAttempt) -> None:
    row, rung = planned.row, planned.plan.rung
    if row.deaths >= MAX_DEATHS:
        raise WorkersDied(f"{row.deaths} workers died in a row, and none of them got on")
    if row.attempt - row.waits > (MAX_ATTACHES if rung == "attach" else MAX_ATTEMPTS):
        raise BudgetExhausted(f"attempt {row.attempt}")
    if rung == "none":
        raise Interrupted("there is text, and no way to go on from it")


async def _request(
    store: Store, models: Models, tools: Sequence[Tool], planned: PlannedAttempt
) -> Request:
    row = planned.row
    conversation = await store.conversation_of(row.id)
    rows = await _history(store, row)
    instructions = conversation.instructions if conversation else None
    names = {name: spec.model for name, spec in models.catalogue.models.items()}
    wanted = context.files_in(rows)
    files = await store.files(wanted) if wanted else {}
    messages = context.messages(rows, instructions, names, files)
    if not messages:
        raise InvalidRequest("nothing to answer")
    return Request(
        messages,
        tools=tools if conversation is not None and conversation.listed else (),
        schema=row.response_schema,
        continuation=planned.continuation,
        tries=row.attempt - 1 - row.waits,
        **context.options(row),
    )


async def _history(store: Store, row: Message) -> list[Message]:
    """The earlier messages. Raises ProviderError if they are too long, or incomplete."""
    try:
        return await store.history(row.conversation_id, row.ordinal)
    except HistoryTooLong as error:
        raise ContextLengthExceeded(
            "there is more text before this answer than MAX_HISTORY_BYTES allows"
        ) from error
    except NotFound as error:
        raise InvalidRequest("a message before this answer was deleted") from error
