"""The request of an attempt: the provider of its model, and the conversation so far."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from tokenwire.models.errors import HistoryTooLong, NotFound
from tokenwire.models.store import Store
from tokenwire.models.tables import Conversation, Message
from tokenwire.models.tool_choices import read
from tokenwire.providers.base import (
    ContextLengthExceeded,
    Interrupted,
    InvalidRequest,
    ModelNotFound,
    Provider,
    Request,
    UnsupportedParameter,
)
from tokenwire.providers.spec import ModelSpec
from tokenwire.worker import context
from tokenwire.worker.attempt.costs import BudgetExhausted
from tokenwire.worker.deaths import MAX_DEATHS
from tokenwire.worker.planning import PlannedAttempt
from tokenwire.worker.retries import WorkersDied
from tokenwire.worker.services import Models
from tokenwire.worker.tools.definition import AnyTool
from tokenwire.worker.tools.toolbox import AnswerTools, allowed

MAX_ATTEMPTS = 50
"""Attempts of one answer, whatever they added. After that it ends as failed. Attempts that ended
because the answer waited do not count.
"""
MAX_ATTACHES = 500
"""The same while attempts attach to a run, which is free. An hour of silence needs fewer."""


class AskedProvider(NamedTuple):
    """Who is asked what, and the tools that the answer may use."""

    provider: Provider
    request: Request
    tools: AnswerTools


async def ask(
    store: Store, models: Models, tools: Mapping[str, AnyTool], planned: PlannedAttempt
) -> AskedProvider:
    """The provider and its request. `tools`: those of this process.

    Raises ProviderError or WorkersDied if there is none, and StoreUnavailable.
    """
    spec = models.catalogue.models.get(planned.row.model or "")
    if spec is None:
        raise ModelNotFound(f"{planned.row.model} is not in the catalogue")
    _require_hope(planned)
    conversation = await store.conversation_of(planned.row.id)
    usable = _usable(planned.row, spec, conversation, tools)
    request = await _request(store, models, planned, conversation)
    request = replace(request, tools=usable.offered, tool_choice=usable.choice)
    return AskedProvider(models.open(spec), request, usable)


def _usable(
    row: Message, spec: ModelSpec, conversation: Conversation | None, tools: Mapping[str, AnyTool]
) -> AnswerTools:
    """Raises UnsupportedParameter for a request that cannot be carried out. An answer that has
    begun is finished with the tools that are left.
    """
    listed, narrowed = False, None
    if conversation is not None:
        listed, narrowed = conversation.listed, conversation.tools
    usable = allowed(tools, (spec.tools, narrowed), read(row.tools), listed=listed)
    if usable.refusal is not None and not row.rounds:
        raise UnsupportedParameter("tools", usable.refusal)
    return usable


def _require_hope(planned: PlannedAttempt) -> None:
    row, rung = planned.row, planned.plan.rung
    if row.deaths >= MAX_DEATHS:
        raise WorkersDied(f"{row.deaths} workers died in a row, and none of them got on")
    if row.attempt - row.waits > (MAX_ATTACHES if rung == "attach" else MAX_ATTEMPTS):
        raise BudgetExhausted(f"attempt {row.attempt}")
    if rung == "none":
        raise Interrupted("there is text, and no way to go on from it")


async def _request(
    store: Store, models: Models, planned: PlannedAttempt, conversation: Conversation | None
) -> Request:
    row = planned.row
    rows = await _history(store, row)
    instructions = conversation.instructions if conversation else None
    names = {name: spec.model for name, spec in models.catalogue.models.items()}
    wanted = context.files_in(rows)
    files = await store.files(wanted) if wanted else {}
    texts = await _steering_in(store, rows, row)
    messages = context.messages(rows, instructions, names, files, texts)
    if not messages:
        raise InvalidRequest("nothing to answer")
    return Request(
        messages,
        schema=row.response_schema,
        continuation=planned.continuation,
        tries=row.attempt - 1 - row.waits,
        **context.options(row),
    )


async def _steering_in(store: Store, rows: Sequence[Message], row: Message) -> dict[str, str]:
    """The texts of messages that reached one of these answers at a step. Some stand behind `row`:
    it was posted before them.
    """
    wanted = context.steering_in(rows, row.parent_id)
    texts = {each.id: each.content for each in rows if each.id in wanted}
    missing = wanted - texts.keys()
    return texts | (await store.texts_of(missing) if missing else {})


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
