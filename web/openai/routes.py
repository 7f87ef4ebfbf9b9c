"""OpenAI's API over answers of Tokenwire: /v1/responses, /v1/chat/completions, /v1/models.
docs/openai.md describes its limits.

A response is an assistant message: `resp_` and its id. Each one that is created here has its own
unlisted conversation; reading, resuming and cancelling work for every visible answer. Routes read
the request and shape the answer; `requests` parses bodies, `web.watching` follows answers,
`encoder` encodes.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.responses import JSONResponse

from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.parts import shown_answer
from tokenwire.models.quotas import ROW_BYTES
from tokenwire.models.responses import Question
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Message
from tokenwire.protocol.events import AnyEvent
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.sent import Withdrawn
from tokenwire.web import delivery, problems
from tokenwire.web.contents import require_question_fits
from tokenwire.web.http.aside import aside
from tokenwire.web.http.departure import ClientGone, until_gone
from tokenwire.web.http.streaming import Cut
from tokenwire.web.openai import encoder as encoding
from tokenwire.web.openai import objects
from tokenwire.web.openai.errors import (
    ANSWER,
    BODY,
    OBJECT,
    OpenAIProblem,
    OpenAIRoute,
    OpenAIStream,
    documented,
    failed,
)
from tokenwire.web.openai.objects import Head
from tokenwire.web.openai.requests import AskBody, CompletionsBody, ResponseBody, Wanted, understood
from tokenwire.web.readers import ITEM_BYTES, Permission, still_allowed
from tokenwire.web.services import (
    Caller,
    IdempotencyKey,
    WebServices,
    With,
    decoded,
    is_row_id,
    json_body,
    read_body,
)
from tokenwire.web.watching import CutOff, Folded, News, Quiet, Updates, watch
from tokenwire.worker import closing

router = APIRouter(
    prefix="/v1",
    route_class=OpenAIRoute,
    responses=documented(401, 421, 500, 503),
    default_response_class=Response,
    tags=["OpenAI's API"],
)

T = TypeVar("T")
CANCEL_SECONDS = 5.0
"""How long a cancel waits for the end of the answer before it returns its state."""
PAGE = 100

OnDisconnect = Annotated[
    str | None, Header(alias="X-Tokenwire-On-Disconnect", pattern="^(cancel|continue)$")
]
"""`cancel`: the answer is stopped when its client leaves before the end. Otherwise the answer
continues.
"""


class Encoder(Protocol):
    """A dialect (`web.openai.encoder`). `head` may be replaced before the terminal event."""

    head: Head

    def opening(self) -> bytes: ...
    def apply(self, event: AnyEvent, touched: range, added: str) -> Iterable[bytes]: ...
    def quiet(self) -> bytes: ...
    def failure(self, reason: str) -> bytes: ...


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
    user: Caller,
    idempotency_key: IdempotencyKey = None,
    on_disconnect: OnDisconnect = None,
) -> Response:
    """Create a response. With `background` it returns at once; with `stream` it sends events;
    otherwise it waits for the end.
    """
    row, wanted = await _ask(request, services, user, ResponseBody, idempotency_key)
    asking = _Asking(request, services, user, row, cancels=on_disconnect == "cancel")
    if wanted.stream:
        return asking.stream(lambda answer: encoding.ResponseEncoder(answer, head_of(row)))
    if wanted.background:
        return JSONResponse(objects.response(head_of(row), shown_answer(row)))
    last = await asking.wait()
    ended = shown_answer(last)
    if ended.status == "error":
        raise failed(ended)
    return JSONResponse(objects.response(head_of(last), ended))


@router.get(
    "/responses/{response_id}", responses=ANSWER | documented(400, 404), summary="Read, or resume"
)
async def get_response(
    request: Request,
    services: With,
    user: Caller,
    response_id: str,
    stream: bool = False,
    starting_after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
) -> Response:
    """The present state of a response; with `stream` its events after a sequence number, then new
    ones.
    """
    row = await _readable(services, user, response_id)
    if stream:
        return _Asking(request, services, user, row).stream(
            lambda answer: encoding.ResponseEncoder(answer, head_of(row), starting_after)
        )
    await delivery.note_interest(services, [row])
    return JSONResponse(objects.response(head_of(row), shown_answer(row)))


@router.get(
    "/responses/{response_id}/input_items",
    responses=OBJECT | documented(400, 404),
    summary="What it answers",
)
async def list_input_items(
    services: With,
    user: Caller,
    response_id: str,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 20,
    order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
) -> Response:
    """The input of the response, item by item."""
    ids = await services.store.input_ids(await _readable(services, user, response_id), user)
    if order == "desc":
        ids.reverse()
    named = [objects.MESSAGE_PREFIX + name for name in ids]
    if after is not None and after not in named:
        raise OpenAIProblem(400, "invalid_value", "There is no such item.", "after")
    start = 0 if after is None else named.index(after) + 1
    rows = await services.store.rows(ids[start : start + limit])
    page = [_input_item(row) for row in rows]
    end = ids.index(rows[-1].id) + 1 if rows else len(ids)
    ends = {
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }
    return JSONResponse({"object": "list", "data": page, "has_more": end < len(ids)} | ends)


@router.post(
    "/responses/{response_id}/cancel", responses=OBJECT | documented(403, 404), summary="Stop"
)
async def cancel_response(services: With, user: Caller, response_id: str) -> Response:
    """Stop it, even before it has begun; an ended one stays."""
    row = await _readable(services, user, response_id)
    if unfinished(row):
        await services.cancels.cancel(row.id, user)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                await _last(services, row, Permission())
        row = await services.store.visible_message(row.id, user)
    return JSONResponse(objects.response(head_of(row), shown_answer(row)))


@router.delete(
    "/responses/{response_id}", responses=OBJECT | documented(400, 403, 404), summary="Forget"
)
async def delete_response(services: With, user: Caller, response_id: str) -> Response:
    """Delete it with its input. Only responses that were created here can be deleted here."""
    row = await _readable(services, user, response_id)
    conversation = await services.store.conversation(row.conversation_id, user)
    if conversation.listed or conversation.user_id != user:
        raise OpenAIProblem(
            400,
            "not_deletable",
            "This answer belongs to a conversation: that can be deleted, under /api.",
        )
    await _forget(services, row)
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
    user: Caller,
    idempotency_key: IdempotencyKey = None,
    on_disconnect: OnDisconnect = None,
) -> Response:
    """Create a completion; with `stream` in chunks, otherwise at the end. A truncated one can be
    read as a response: `resp_` in place of `chatcmpl-`.
    """
    row, wanted = await _ask(request, services, user, CompletionsBody, idempotency_key)
    asking = _Asking(request, services, user, row, cancels=on_disconnect == "cancel")
    if wanted.stream:
        return asking.stream(
            lambda answer: encoding.ChatEncoder(
                answer, head_of(row), include_usage=wanted.include_usage
            )
        )
    last = await asking.wait()
    ended = shown_answer(last)
    if ended.status != "complete":
        raise failed(ended)
    return JSONResponse(objects.completion(head_of(last), ended))


# --- models ---------------------------------------------------------------------------------------


@router.get("/models", responses=OBJECT, summary="The models that can be used now")
async def list_models(services: With, _user: Caller) -> Response:
    """The models that can be used now."""
    return JSONResponse(
        {"object": "list", "data": [_model(name) for name in services.offers.names()]}
    )


@router.get("/models/{name:path}", responses=OBJECT | documented(404), summary="A model")
async def get_model(services: With, _user: Caller, name: str) -> Response:
    """One of them."""
    return JSONResponse(_model(services.offers.require(name)))


@router.api_route(
    "/{rest:path}",
    methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
    include_in_schema=False,
)
async def nothing(request: Request, _user: Caller, rest: str) -> Response:
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


# --- asking and watching --------------------------------------------------------------------------


def head_of(row: Message) -> Head:
    """The fields of a Response from the row."""
    return Head(
        id=row.id,
        model=row.model or "",
        created_at=row.created_at // 1000,
        asked=row.asked or {},
        completed_at=row.updated_at // 1000,
    )


def _input_item(row: Message) -> dict[str, Any]:
    kind = "output_text" if row.role == "assistant" else "input_text"
    content: list[dict[str, Any]] = [
        {"type": kind, "text": row.content}
        | ({"annotations": []} if row.role == "assistant" else {})
    ]
    return {
        "id": objects.MESSAGE_PREFIX + row.id,
        "type": "message",
        "role": row.role,
        "status": "completed",
        "content": content,
    }


async def _readable(services: WebServices, user: str, response_id: str) -> Message:
    """The answer with this name, for a permitted user. Raises OpenAIProblem (404)."""
    for prefix in (objects.RESPONSE_PREFIX, objects.CHAT_PREFIX):
        if response_id.startswith(prefix) and is_row_id(response_id.removeprefix(prefix)):
            with contextlib.suppress(NotFound):
                row = await services.store.visible_message(response_id.removeprefix(prefix), user)
                if row.role == "assistant" and not _passing(row):
                    return row
    raise OpenAIProblem(
        404,
        "not_found",
        f"There is no response {response_id!r}, or it is not yours.",
        "response_id",
    )


async def _followed(
    services: WebServices, user: str, previous_response_id: str | None
) -> Message | None:
    if previous_response_id is None:
        return None
    try:
        row = await _readable(services, user, previous_response_id)
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


async def _ask(
    request: Request, services: WebServices, user: str, model: type[AskBody], key: str | None
) -> tuple[Message, Wanted]:
    """The new answer. The body ends with this call: nothing else may hold it for as long as the
    answer takes.
    """
    body = await _read(request, services, model)
    offered = services.offers.require(body.model)
    follows = await _followed(services, user, body.follows)
    question = await aside(
        ROW_BYTES * body.length, lambda: _question(services, body, user, offered, follows)
    )
    if not body.background:
        with services.places.take():  # refused before any row: a refused client asks again
            pass
    idempotency = None
    if key is not None:  # a body may be long: it is not walked for nothing
        asked = body.model_dump(mode="json", include=set(type(body).model_fields))
        idempotency = Idempotency.of(key, f"POST {request.url.path}", asked)
    try:
        posted = await services.store.ask(question, idempotency)
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


async def _read(request: Request, services: WebServices, model: type[AskBody]) -> AskBody:
    body, most = await read_body(request), services.settings.max_body_values
    return await aside(len(body), lambda: understood(model, decoded(body, most)))


def _question(
    services: WebServices, body: AskBody, user: str, model: str, follows: Message | None
) -> Question:
    question = body.question(user, model, follows)
    require_question_fits(services.settings, question)
    return question


def _passing(row: Message) -> bool:
    """A request with `store: false`: the answer lives as long as the request."""
    return (row.asked or {}).get("store") is False


async def _forget(services: WebServices, row: Message) -> None:
    await closing.delete_conversation(services.store, services.log, row.conversation_id)


async def _last(services: WebServices, row: Message, permission: Permission) -> Message:
    """The answer at its end. Raises OpenAIProblem if that cannot be seen."""
    async with contextlib.aclosing(watch(services, Answer(row.id), permission)) as updates:
        async for update in updates:
            if isinstance(update, CutOff):
                raise _cut_off(update)
    if (ended := await services.store.message(row.id)) is None:
        raise _cut_off(CutOff("deleted"))
    return ended


def _cut_off(update: CutOff) -> OpenAIProblem:
    if update.reason == "stopped":
        return OpenAIProblem(
            503,
            "restarting",
            "The server is restarting; the answer goes on.",
            kind="server_error",
            headers={"x-should-retry": "false"},
        )
    status = 404 if update.reason in ("deleted", "removed") else 401
    return OpenAIProblem(status, update.reason, encoding.why(update.reason))


class _Asking:
    """A client that waits for an answer. `cancels`: the answer is useless without this client."""

    def __init__(
        self,
        request: Request,
        services: WebServices,
        user: str,
        row: Message,
        *,
        cancels: bool = False,
    ) -> None:
        # Without its body: this lives as long as the answer takes.
        self._request = Request(request.scope, request.receive)
        self._services, self._user, self._row = services, user, row
        self._cancels = cancels
        self._ended = False
        self._permission = Permission(check=self._may_read, user_id=user)

    def stream(self, make: Callable[[Answer], Encoder]) -> Response:
        """The answer in a dialect, until it ends."""
        answer = Answer(self._row.id)

        @contextlib.asynccontextmanager
        async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
            async with contextlib.aclosing(
                watch(self._services, answer, self._permission)
            ) as updates:
                try:
                    yield self._stream(make(answer), updates)
                finally:
                    await self._leave()

        return OpenAIStream(self._services.places, opened)

    async def wait(self) -> Message:
        """The answer at its end. Raises OpenAIProblem."""
        with self._services.places.take():
            try:
                last = _last(self._services, self._row, self._permission)
                ended = await until_gone(self._request.receive, last)
                self._ended = True
                return ended
            except ClientGone as error:
                raise OpenAIProblem(499, "client_gone", "The client has left.") from error
            finally:
                await self._leave()

    async def _stream(self, encoder: Encoder, updates: Updates) -> AsyncIterator[bytes]:
        yield encoder.opening()
        async for update in updates:
            match update:
                case News(folded):
                    if update.ends:  # only the row knows when it was completed
                        self._ended = True
                        row = await self._services.store.message(self._row.id)
                        encoder.head = head_of(row or self._row)
                    try:
                        for portion in _joined(encoder, folded):
                            yield portion
                    except Withdrawn:
                        yield encoder.failure(encoding.RESTARTED)
                        return
                case CutOff("stopped"):
                    # it can be resumed; an orderly end would look like the end of the answer
                    raise Cut
                case CutOff(reason):
                    yield encoder.failure(reason)
                case Quiet():
                    yield encoder.quiet()

    async def _leave(self) -> None:
        """The client has left, or has everything."""
        if _passing(self._row) and self._row.asked:
            await _forget(self._services, self._row)
        elif self._cancels and not self._ended:
            with contextlib.suppress(StoreUnavailable):
                await self._services.cancels.cancel(self._row.id, self._user)

    async def _may_read(self) -> bool:
        async def ask() -> None:
            self._services.identify(self._request)
            await self._services.store.visible_message(self._row.id, self._user)

        return await still_allowed(ask)


def _joined(encoder: Encoder, folded: Iterable[Folded]) -> Iterator[bytes]:
    """One write for all blocks that come together, unless they are long."""
    held: list[bytes] = []
    size = 0
    for event in folded:
        for portion in encoder.apply(*event):
            held.append(portion)
            size += len(portion)
            if size > ITEM_BYTES:
                yield b"".join(held)
                held, size = [], 0
    yield b"".join(held)
