"""The routes of `useChat`: post and answer, resume, stop, load.

A chat id is the client's own name for a conversation of the user, created with the first message.
The stored history is the truth: only the client's last message is read. A client that leaves stops
nothing; `stop` does.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from tokenwire.models.rows import unfinished
from tokenwire.models.views import message_view
from tokenwire.protocol.cursors import Cursor
from tokenwire.web import aisdk, delivery
from tokenwire.web.aisdk import posts as chat_posts
from tokenwire.web.aisdk import requests as chat_requests
from tokenwire.web.aisdk.continued import Continued
from tokenwire.web.aisdk.messages import ui_message
from tokenwire.web.aisdk.requests import InputLimits, invalid
from tokenwire.web.aisdk.stream import chunk_batches, encoded
from tokenwire.web.aisdk.values import PROFILES
from tokenwire.web.api import shapes
from tokenwire.web.events.routes import admit, wanted_cursor
from tokenwire.web.http.aside import aside
from tokenwire.web.http.streaming import EventStream, stream_of
from tokenwire.web.problems import BODY, PARAMETERS, QUOTA_CODES, documented
from tokenwire.web.resuming import message_at, unservable
from tokenwire.web.services import CurrentUser, WebServices, With, json_body, read_body

STREAM = stream_of("A UI message stream of the AI SDK")
T = TypeVar("T")
_BODY = (*BODY, "content_too_large", "not_found", "over_capacity")

router = APIRouter(
    prefix="/api",
    responses=documented("unauthenticated", "unknown_host", "internal", "damaged", "unavailable"),
)


def _chat_id(
    chat_id: Annotated[
        str, Path(description="The client's name of the chat, or the id of a conversation")
    ],
) -> str:
    return chat_requests.name(chat_id, "path.chat_id")


def _profile(
    services: With,
    profile: Annotated[
        str | None, Query(description="Major version of `ai`: v5 (the default), v6 or v7")
    ] = None,
    x_ai_sdk_profile: Annotated[str | None, Header(description="The same")] = None,
) -> aisdk.Profile:
    return profile_of(services, profile or x_ai_sdk_profile)


def profile_of(services: WebServices, wanted: str | None) -> aisdk.Profile:
    """The profile of this name (None: the setting's). Raises ApiProblem (422)."""
    found = wanted or services.settings.ai_sdk_profile
    if found not in PROFILES:
        raise invalid("query.profile", f"one of {', '.join(PROFILES)}")
    return found


WantedProfile = Annotated[aisdk.Profile, Depends(_profile)]
ChatId = Annotated[str, Depends(_chat_id)]


async def read(
    request: Request, services: WebServices, parse: Callable[[bytes, InputLimits], T]
) -> T:
    """The parsed body. Raises ApiProblem (400, 408, 413, 422)."""
    body = await read_body(request)
    return await aside(len(body), lambda: parse(body, InputLimits.of(services.settings)))


@router.post(
    "/chat",
    response_class=Response,
    responses=STREAM
    | documented(
        *(*_BODY, *QUOTA_CODES, *PARAMETERS, "key_reused", "answer_running"),
        *("not_decider", "not_awaited", "unknown_tool"),
    ),
    openapi_extra=json_body(chat_requests.ChatBody),
    summary="useChat: post, or make an answer again; the answer",
)
async def chat(
    request: Request, services: With, user: CurrentUser, profile: WantedProfile
) -> Response:
    """A message with a known id is not posted again; its answer is sent from the beginning.

    An assistant's message decides about its calls, and is continued: only what is new is sent.
    """
    asked = await read(request, services, chat_requests.parse_chat)
    found = await chat_posts.accept(services, user, asked)
    row, continued = found.row, found.continued
    return await stream(
        request, services, row.conversation_id, row.id, profile, continued=continued
    )


@router.get(
    "/chat/{chat_id:path}/stream",
    response_class=Response,
    responses={
        **STREAM,
        204: {"description": "Nothing is being written"},
        **documented(
            "bad_request",
            "malformed_cursor",
            "not_found",
            "cursor_lost",
            "invalid",
            "over_capacity",
        ),
    },
    summary="useChat: resume",
)
async def resume(
    request: Request,
    services: With,
    chat_id: ChatId,
    profile: WantedProfile,
    after: Annotated[
        str | None,
        Query(description="Only what follows this cursor, which the `id:` of a chunk was"),
    ] = None,
    last_event_id: Annotated[str | None, Header(description="The same; it wins")] = None,
    last_message_id: Annotated[
        str | None,
        Query(
            alias="lastMessageId",
            description="The last message that the client shows (empty: none). If the answer after "
            "it has ended, that one is sent",
        ),
    ] = None,
) -> Response:
    """The running answer from its beginning, or what follows a cursor, even if the answer has just
    ended.
    """
    last = None if last_message_id is None else chat_requests.last_shown(last_message_id)
    place = wanted_cursor(request, last_event_id, after)
    user = services.identify(request)
    conversation = await services.store.find_chat(user, chat_id)
    if place is not None:
        if conversation is None:
            raise unservable()
        message_id = await message_at(services, conversation.id, place)
        return await stream(request, services, conversation.id, message_id, profile, place)
    if conversation is None:
        return Response(status_code=204)
    row = await chat_posts.resumable(services, conversation, user, last)
    return (
        Response(status_code=204)
        if row is None
        else await stream(request, services, row.conversation_id, row.id, profile)
    )


@router.post(
    "/chat/{chat_id:path}/stop",
    responses=documented("foreign_origin", "not_found", "invalid"),
    summary="useChat: stop the answer",
)
async def stop(services: With, user: CurrentUser, chat_id: ChatId) -> shapes.CancelResult:
    """Durable; the written text is kept. No effect without an unfinished answer."""
    conversation = await services.store.find_chat(user, chat_id)
    return shapes.CancelResult(
        cancelled=await services.cancels.cancel_all(conversation.id, user) if conversation else []
    )


@router.get(
    "/chat/{chat_id:path}/messages",
    responses=documented("not_found", "invalid"),
    summary="useChat: messages to begin with",
)
async def messages(
    services: With,
    user: CurrentUser,
    chat_id: ChatId,
    profile: WantedProfile,
    limit: Annotated[int, Query(ge=1, le=shapes.MAX_PAGE)] = shapes.MAX_PAGE,
    before: Annotated[int | None, Query(ge=1, le=shapes.MAX_ORDINAL)] = None,
) -> shapes.ChatMessages:
    """The newest messages as UI messages, without an unfinished answer: `resume` brings that
    one.
    """
    conversation = await services.store.find_chat(user, chat_id)
    if conversation is None:
        return shapes.ChatMessages(messages=[], next=None)
    found = await services.store.snapshot(conversation.id, user, limit, before)
    await delivery.note_interest(services, found.messages)
    shown = [
        ui_message(message_view(row), row.client_id or row.id, profile)
        for row in found.messages
        if not unfinished(row)
    ]
    return shapes.ChatMessages(
        messages=[message for message in shown if message is not None], next=found.next
    )


async def stream(
    request: Request,
    services: WebServices,
    conversation_id: str,
    message_id: str,
    profile: aisdk.Profile,
    after: Cursor | None = None,
    continued: Continued | None = None,
) -> Response:
    """The answer as a UI message stream."""

    async def find(_user: str) -> str:
        return conversation_id

    _, permission = await admit(request, services, find)

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async with chunk_batches(
            services, message_id, profile, permission, after, continued
        ) as found:
            yield encoded(found)

    return EventStream(services.places, opened, aisdk.HEADERS)
