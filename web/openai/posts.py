"""A request for an answer becomes rows and a job. Responses and chat completions ask alike."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import Request

from tokenwire.models.conversations import Posted
from tokenwire.models.errors import NotFound
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.parts import shown_answer
from tokenwire.models.quotas import ROW_BYTES
from tokenwire.models.responses import PastCall, Question
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Message
from tokenwire.web import delivery
from tokenwire.web.contents import require_question_fits, require_usable
from tokenwire.web.http.aside import aside
from tokenwire.web.openai import objects
from tokenwire.web.openai.errors import OpenAIProblem, unsupported
from tokenwire.web.openai.following import is_passing
from tokenwire.web.openai.inputs import items_of, row_of_item
from tokenwire.web.openai.requests import AskBody, Asker, Wanted, understood
from tokenwire.web.openai.tools import functions_of, require_own_names
from tokenwire.web.openai.turns import requests_of
from tokenwire.web.services import WebServices, decoded, is_row_id, read_body
from tokenwire.worker import schemas


async def readable(services: WebServices, user: str, response_id: str) -> Message:
    """The answer with this name, for a permitted user. Raises OpenAIProblem (404)."""
    for prefix in (objects.RESPONSE_PREFIX, objects.CHAT_PREFIX):
        if response_id.startswith(prefix) and is_row_id(response_id.removeprefix(prefix)):
            with contextlib.suppress(NotFound):
                row = await services.store.visible_message(response_id.removeprefix(prefix), user)
                if row.role == "assistant" and not is_passing(row):
                    return row
    raise OpenAIProblem(
        404,
        "not_found",
        f"There is no response {response_id!r}, or it is not yours.",
        "response_id",
    )


async def _require_schemas(question: Question) -> None:
    """Those of the answer and of each tool of the request can be used."""
    used = {"The schema": question.response_schema or {}}
    used |= {f"The parameters of {own.name}": own.parameters for own in question.tools.own}
    try:
        await require_usable(*used.values(), user=question.user_id)
    except schemas.BadSchema as error:
        words = f"{list(used)[error.number]}: {error}"
        raise OpenAIProblem(400, "invalid_json_schema", words) from error


async def _followed(
    services: WebServices, user: str, previous_response_id: str | None
) -> Message | None:
    if previous_response_id is None:
        return None
    try:
        row = await readable(services, user, previous_response_id)
    except OpenAIProblem as error:
        raise OpenAIProblem(
            400, "previous_response_not_found", str(error), "previous_response_id"
        ) from error
    if unfinished(row):
        raise OpenAIProblem(
            400,
            "previous_response_unfinished",
            "The response before has not ended yet.",
            "previous_response_id",
        )
    return row


async def _referred(
    services: WebServices, user: str, references: set[str]
) -> dict[str, dict[str, Any]]:
    """The items with these ids, of messages that the user may read. Raises OpenAIProblem (400)."""
    found = dict[str, dict[str, Any]]()
    async for names, row in _rows_of(services, user, references):
        items = {} if row is None or is_passing(row) else {one["id"]: one for one in items_of(row)}
        for name in names:
            if name not in items:
                raise OpenAIProblem(400, "not_found", f"Item {name[:80]!r} was not found.", "input")
            found[name] = items[name]
    return found


async def _requested(services: WebServices, user: str, names: set[str]) -> dict[str, PastCall]:
    """The approval requests with these ids, of ended answers that the user may read."""
    found = dict[str, PastCall]()
    async for _, row in _rows_of(services, user, names):
        if row is not None and row.role == "assistant" and not unfinished(row):
            found |= requests_of(shown_answer(row), functions_of(row))
    return found


async def _rows_of(
    services: WebServices, user: str, names: set[str]
) -> AsyncIterator[tuple[list[str], Message | None]]:
    """The names of items, row by row, and the row if the user may read it. Each is read once."""
    by_row = dict[str, list[str]]()
    for name in sorted(names):
        by_row.setdefault(row_of_item(name), []).append(name)
    for row_id, named in by_row.items():
        row = None
        if is_row_id(row_id):
            with contextlib.suppress(NotFound):
                row = await services.store.visible_message(row_id, user)
        yield named, row


async def ask(
    request: Request, services: WebServices, user: str, model: type[AskBody], key: str | None
) -> tuple[Message, Wanted]:
    """The new answer. The body ends with this call: nothing else may hold it for as long as the
    answer takes.
    """
    body = await _read(request, services, model)
    offered = services.offers.require(body.model)
    body.resolve(await _referred(services, user, body.references))
    follows = await _followed(services, user, body.follows)
    requests = await _requested(services, user, body.requests)
    question = await aside(
        ROW_BYTES * body.length, lambda: _question(services, body, user, offered, follows, requests)
    )
    await _require_schemas(question)
    if not body.background:
        with services.places.take():  # refused before any row: a refused client asks again
            pass
    try:
        posted = await _posted(services, f"POST {request.url.path}", body, question, key)
    except NotFound as error:
        if question.follows is None:  # the rows of a repeated key are gone
            raise
        raise OpenAIProblem(
            400,
            "previous_response_not_found",
            "A response that this one follows was deleted.",
            "previous_response_id",
        ) from error
    services.metrics.posts.inc()
    await delivery.announce_post(services, posted)
    return posted.assistant_message, body.wanted


async def _posted(
    services: WebServices, route: str, body: AskBody, question: Question, key: str | None
) -> Posted:
    """The rows of the answer, or those that the first of repeated requests has made.

    OpenAI's clients repeat a request whose connection broke, and send no key. A decision applies
    once, so a request that brings one is recognised by its body.
    """
    ask = services.store.ask
    if key is not None:
        return await ask(question, Idempotency.of(key, route, body.understood))
    if not question.approvals:  # a body may be long: it is not walked for nothing
        return await ask(question)
    try:
        return await ask(question, Idempotency.of_body(route, body.understood))
    except NotFound:  # perhaps the first response is gone: then the decision itself says why not
        return await ask(question)


async def _read(request: Request, services: WebServices, model: type[AskBody]) -> AskBody:
    body, most = await read_body(request), services.settings.max_body_values
    once = b"mcp_approval_response" in body  # a history is long, a decision must be plain
    return await aside(len(body), lambda: understood(model, decoded(body, most, once=once)))


def _question(
    services: WebServices,
    body: AskBody,
    user: str,
    model: str,
    follows: Message | None,
    requests: Mapping[str, PastCall],
) -> Question:
    question = body.question(Asker(user, services.settings), model, follows, requests)
    if refused := services.offers.refusal(model, question.options):
        raise unsupported(body.param(refused.parameter), refused.reason)
    usable = services.offers.usable_tools(model, None, question.tools, listed=False)
    require_own_names(question.tools, usable)
    require_question_fits(services.settings, question)
    return question
