"""OpenAI's API over answers of Tokenwire: /v1/responses, /v1/chat/completions, /v1/models.
docs/openai.md describes its limits.

A response is an assistant message: `resp_` and its id. Each one that is created here has its own
unlisted conversation; reading, resuming and cancelling work for every visible answer. `requests`
parses bodies, `posts` stores the question, `following` waits for the answer or streams it,
`encoder` and `objects` shape it.
"""

import asyncio
import contextlib
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, Query, Request, Response
from starlette.responses import JSONResponse

from tokenwire.models.parts import shown_answer
from tokenwire.models.rows import unfinished
from tokenwire.web import delivery, problems
from tokenwire.web.http import refusals
from tokenwire.web.openai import completions, responses
from tokenwire.web.openai import encoder as encoding
from tokenwire.web.openai.errors import (
    ANSWER,
    BODY,
    OBJECT,
    OpenAIProblem,
    OpenAIRoute,
    documented,
    failed,
    refused,
)
from tokenwire.web.openai.following import Asking, ended_row, forget, head_of, response_of
from tokenwire.web.openai.inputs import items_of, row_of_item
from tokenwire.web.openai.posts import ask, readable
from tokenwire.web.openai.requests import CompletionsBody, ResponseBody
from tokenwire.web.readers import Permission
from tokenwire.web.services import (
    CurrentUser,
    IdempotencyKeyHeader,
    With,
    json_body,
)

router = APIRouter(
    prefix="/v1",
    route_class=OpenAIRoute,
    responses=documented(401, 421, 500, 503),
    default_response_class=Response,
    tags=["OpenAI's API"],
)

CANCEL_SECONDS = 5.0
"""How long a cancel waits for the end of the answer before it returns its state."""
MAX_LISTED = 100

OnDisconnect = Annotated[
    str | None, Header(alias="X-Tokenwire-On-Disconnect", pattern="^(cancel|continue)$")
]
"""`cancel`: the answer is stopped when its client leaves before the end. Otherwise the answer
continues.
"""


def install(app: FastAPI) -> None:
    """Serve these routes. What is refused before them has OpenAI's form too."""
    refusals.register(f"{router.prefix}/", refused)
    app.include_router(router)


# --- responses ------------------------------------------------------------------------------------


@router.post(
    "/responses",
    responses=ANSWER | documented(*BODY, 404, 409, 429, 502),
    openapi_extra=json_body(ResponseBody),
    summary="Ask",
)
async def create_response(
    request: Request,
    services: With,
    user: CurrentUser,
    idempotency_key: IdempotencyKeyHeader = None,
    on_disconnect: OnDisconnect = None,
) -> Response:
    """Create a response. With `background` it returns at once; with `stream` it sends events;
    otherwise it waits for the end.
    """
    row, wanted = await ask(request, services, user, ResponseBody, idempotency_key)
    asking = Asking(request, services, user, row, cancels=on_disconnect == "cancel")
    if wanted.stream:
        return asking.stream(encoding.ResponseEncoder)
    if wanted.background:
        return JSONResponse(await response_of(services, user, row))
    last = await asking.wait(with_pictures=True)
    ended = shown_answer(last)
    if ended.status == "error":
        raise failed(ended)
    return JSONResponse(responses.response(head_of(last, asking.pictures.shown), ended))


@router.get(
    "/responses/{response_id}", responses=ANSWER | documented(400, 404), summary="Read, or resume"
)
async def get_response(
    request: Request,
    services: With,
    user: CurrentUser,
    response_id: str,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
) -> Response:
    """The present state of a response; with `stream` its events after a sequence number, then new
    ones.
    """
    row = await readable(services, user, response_id)
    if stream:
        return Asking(request, services, user, row).stream(
            lambda answer, head: encoding.ResponseEncoder(answer, head, starting_after)
        )
    await delivery.note_interest(services, [row])
    return JSONResponse(await response_of(services, user, row))


@router.get(
    "/responses/{response_id}/input_items",
    responses=OBJECT | documented(400, 404),
    summary="What it answers",
)
async def list_input_items(
    services: With,
    user: CurrentUser,
    response_id: str,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LISTED)] = 20,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
) -> Response:
    """The input of the response, item by item. `limit` counts messages: one may have several
    items.
    """
    ids = await services.store.input_ids(await readable(services, user, response_id), user)
    if order == "desc":
        ids.reverse()
    name = None if after is None else row_of_item(after)
    if after is not None and name not in ids:
        raise OpenAIProblem(400, "invalid_value", "There is no such item.", "after")
    start = 0 if name is None else ids.index(name) + 1
    rows = await services.store.rows(ids[start : start + limit])
    page = [item for row in rows for item in items_of(row, newest_first=order == "desc")]
    end = ids.index(rows[-1].id) + 1 if rows else len(ids)
    ends = {
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }
    return JSONResponse({"object": "list", "data": page, "has_more": end < len(ids)} | ends)


@router.post(
    "/responses/{response_id}/cancel", responses=OBJECT | documented(403, 404), summary="Stop"
)
async def cancel_response(services: With, user: CurrentUser, response_id: str) -> Response:
    """Stop it, even before it has begun; an ended one stays."""
    row = await readable(services, user, response_id)
    if unfinished(row):
        await services.cancels.cancel(row.id, user)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await ended_row(services, row, Permission())
        row = await services.store.visible_message(row.id, user)
    return JSONResponse(await response_of(services, user, row))


@router.delete(
    "/responses/{response_id}", responses=OBJECT | documented(400, 403, 404), summary="Forget"
)
async def delete_response(services: With, user: CurrentUser, response_id: str) -> Response:
    """Delete it with its input. Only responses that were created here can be deleted here."""
    row = await readable(services, user, response_id)
    conversation = await services.store.conversation(row.conversation_id, user)
    if conversation.listed or conversation.user_id != user:
        raise OpenAIProblem(
            400,
            "not_deletable",
            "This answer belongs to a conversation: that can be deleted, under /api.",
        )
    await forget(services, row)
    return JSONResponse({"id": response_id, "object": "response", "deleted": True})


# --- chat completions -----------------------------------------------------------------------------


@router.post(
    "/chat/completions",
    responses=ANSWER | documented(*BODY, 404, 409, 429, 502),
    openapi_extra=json_body(CompletionsBody),
    summary="Ask",
)
async def create_completion(
    request: Request,
    services: With,
    user: CurrentUser,
    idempotency_key: IdempotencyKeyHeader = None,
    on_disconnect: OnDisconnect = None,
) -> Response:
    """Create a completion; with `stream` in chunks, otherwise at the end. A truncated one can be
    read as a response: `resp_` in place of `chatcmpl-`.
    """
    row, wanted = await ask(request, services, user, CompletionsBody, idempotency_key)
    asking = Asking(request, services, user, row, cancels=on_disconnect == "cancel")
    if wanted.stream:
        return asking.stream(
            lambda answer, head: encoding.ChatEncoder(
                answer, head, include_usage=wanted.include_usage
            )
        )
    last = await asking.wait()
    ended = shown_answer(last)
    if ended.status != "complete":
        raise failed(ended)
    return JSONResponse(completions.completion(head_of(last), ended))


# --- models ---------------------------------------------------------------------------------------


@router.get("/models", responses=OBJECT, summary="The models that can be used now")
async def list_models(services: With, _user: CurrentUser) -> Response:
    """The models that can be used now."""
    return JSONResponse(
        {"object": "list", "data": [_model(name) for name in services.offers.names()]}
    )


@router.get("/models/{name:path}", responses=OBJECT | documented(404), summary="A model")
async def get_model(services: With, _user: CurrentUser, name: str) -> Response:
    """One of them."""
    return JSONResponse(_model(services.offers.require(name)))


@router.api_route(
    "/{rest:path}",
    methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
    include_in_schema=False,
)
async def nothing(request: Request, _user: CurrentUser, rest: str) -> Response:
    """Routes of OpenAI's API that this one lacks."""
    own = [route for route in router.routes if route is not router.routes[-1]]
    if taken := problems.methods(request.scope, own):
        raise OpenAIProblem(
            405,
            "method_not_allowed",
            "This address does not take this method.",
            headers={"Allow": ", ".join(taken)},
        )
    raise OpenAIProblem(404, "unknown_url", f"There is nothing at /v1/{rest} here.")


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "tokenwire"}
