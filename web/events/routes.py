"""The event streams of PROTOCOL.md, section 7: a conversation, or one of its messages, as
server-sent events.

Decides who may read and from which cursor; `web.events.encoder` makes the text, `web.readers` gives
what comes next. A caller logs in as everywhere in the API, or with a subscription token as bearer
token.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, FastAPI, Header, Query, Request, Response

from tokenwire.models.errors import NotFound
from tokenwire.protocol import tokens
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Sendable
from tokenwire.streams.hub.hub import RingEntry
from tokenwire.web.admission.identity import subscription_grant
from tokenwire.web.events import encoder as sse
from tokenwire.web.http.streaming import RESPONSES, EventStream, event_headers, retry_ms
from tokenwire.web.problems import ApiProblem, documented
from tokenwire.web.readers import Beat, Ended, Entries, HttpReader, Live, Permission, still_allowed
from tokenwire.web.services import ConversationId, MessageId, WebServices, With

_RESPONSES = RESPONSES | documented(
    "malformed_cursor",
    "bad_request",
    "unauthenticated",
    "unknown_host",
    "not_found",
    "internal",
    "damaged",
    "unavailable",
    "over_capacity",
)

router = APIRouter(prefix="/api")

After = Annotated[
    str | None,
    Query(description="Cursor to go on after, such as `k3f9:57`; without any: from now on"),
]
LastEventId = Annotated[
    str | None, Header(description="The same, as an EventSource sends it; it wins")
]


@dataclass(frozen=True, slots=True)
class Reading:
    """A reader, its conversation and its cursor."""

    conversation_id: str
    after: Cursor | None
    permission: Permission
    message_id: str | None = None


def install(app: FastAPI) -> None:
    """Serve the event streams."""
    app.include_router(router)


@router.head("/conversations/{conversation_id}/events", include_in_schema=False)
@router.get(
    "/conversations/{conversation_id}/events",
    response_class=Response,
    responses=_RESPONSES,
    summary="Events of a conversation",
)
async def conversation_events(
    request: Request,
    services: With,
    conversation_id: ConversationId,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Server-sent events, resumable by `Last-Event-ID`. A cursor that cannot be served gives a
    `resync` event.
    """
    wanted = wanted_cursor(request, last_event_id, after)

    async def find(user: str) -> str:
        return (await services.store.conversation(conversation_id, user)).id

    found, permission = await admit(request, services, find)
    return _answer(request, services, Reading(found, wanted, permission))


@router.head("/messages/{message_id}/events", include_in_schema=False)
@router.get(
    "/messages/{message_id}/events",
    response_class=Response,
    responses=_RESPONSES,
    summary="Events of one message",
)
async def message_events(
    request: Request,
    services: With,
    message_id: MessageId,
    after: After = None,
    last_event_id: LastEventId = None,
) -> Response:
    """The events of a conversation that concern one message; their `seq` has holes."""
    wanted = wanted_cursor(request, last_event_id, after)

    async def find(user: str) -> str:
        return (await services.store.visible_message(message_id, user)).conversation_id

    found, permission = await admit(request, services, find)
    return _answer(request, services, Reading(found, wanted, permission, message_id))


def wanted_cursor(request: Request, last_event_id: str | None, after: str | None) -> Cursor | None:
    """The client's cursor (None: from now on). Raises ApiProblem (400)."""
    if "token" in request.query_params:
        raise ApiProblem(
            "bad_request", "A token does not belong into an address: addresses end up in logs."
        )
    try:
        return sse.cursor(last_event_id, after)
    except ValueError as error:
        raise ApiProblem("malformed_cursor", "A cursor looks like k3f9:57.") from error


async def admit(
    request: Request, services: WebServices, find: Callable[[str], Awaitable[str]]
) -> tuple[str, Permission]:
    """The id of the conversation to read, and until when that is allowed.

    `find(user)` returns the conversation of the requested row, or raises NotFound. Raises
    ApiProblem (401, 404), NotFound.
    """
    grant = subscription_grant(request, services.token_key)
    user = grant.user_id if grant else services.identify(request)
    conversation_id = await find(user)
    if grant is not None and grant.conversation_id != conversation_id:
        raise NotFound("conversation")

    async def check() -> bool:
        async def ask() -> None:
            if grant is None:
                services.identify(request)
            await services.store.conversation(conversation_id, user)

        return await still_allowed(ask)

    if grant is None:
        return conversation_id, Permission(check=check, user_id=user)
    return conversation_id, Permission(grant.expires_at + tokens.LEEWAY_SECONDS, check, user)


def _answer(request: Request, services: WebServices, reading: Reading) -> Response:
    if request.method == "HEAD":
        return Response(headers=event_headers())

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async with services.readers.follow(
            reading.conversation_id, reading.after, reading.permission
        ) as reader:
            yield _stream(services, reading, reader)

    return EventStream(services.places, opened)


async def _stream(
    services: WebServices, reading: Reading, reader: HttpReader
) -> AsyncIterator[bytes]:
    encoder = sse.EventEncoder(reading.message_id, _block)
    # A reader without a cursor gets its first one: a cut before the first event must not lose that
    # event.
    yield encoder.opening(
        retry_ms(), reader.cursor if reading.after is None and reader.ended is None else None
    )
    async for item in reader:
        match item:
            case Entries(entries, late):
                yield encoder.events(reader.cursor.epoch, entries, merged=late)
            case Live(cursor):
                yield sse.comment(f"live {cursor}")
            case Beat(cursor):
                yield encoder.heartbeat(cursor)
            case Ended():
                async for text in _end(services, item):
                    yield text


async def _end(services: WebServices, ended: Ended) -> AsyncIterator[bytes]:
    if ended.reason == "deleted":
        yield sse.deleted()
    elif ended.resync is None:
        yield sse.comment(ended.reason)
    else:
        yield sse.resync(ended.resync)
        # An end would make a bare EventSource reconnect at once with the same cursor.
        async for text in _comments(services):
            yield text


async def _comments(services: WebServices) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(services.settings.heartbeat_idle_seconds):
                await services.readers.stopping.wait()
            return
        except TimeoutError:
            yield sse.comment("heartbeat")


def _block(epoch: str, entry: Sendable) -> bytes:
    """Built once per event and process; pages of the log are built again for each lagging
    reader.
    """
    if not isinstance(entry, RingEntry):
        return sse.event(epoch, entry)
    if entry.frame is None:
        entry.frame = sse.event(epoch, entry)
    return entry.frame
