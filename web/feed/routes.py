"""`GET /api/feed`: a user's conversations, live, as server-sent events (PROTOCOL.md, section 7)."""

import contextlib
from collections.abc import AsyncIterator

import msgspec
from fastapi import APIRouter, FastAPI, Request, Response

from tokenwire.config.clock import clock
from tokenwire.web.events import encoder as sse
from tokenwire.web.feed.feeds import FeedReader
from tokenwire.web.http.streaming import RESPONSES, EventStream, event_headers, retry_ms
from tokenwire.web.problems import ApiProblem, documented
from tokenwire.web.readers import RECHECK_SECONDS
from tokenwire.web.services import CurrentUser, WebServices, With

router = APIRouter(prefix="/api")

_RESPONSES = RESPONSES | documented(
    "unauthenticated", "unknown_host", "internal", "damaged", "unavailable", "over_capacity"
)


def install(app: FastAPI) -> None:
    """Serve the feed."""
    app.include_router(router)


@router.head("/feed", include_in_schema=False)
@router.get(
    "/feed",
    response_class=Response,
    responses=_RESPONSES,
    summary="The caller's conversations, live",
)
async def feed(request: Request, services: With, user: CurrentUser) -> Response:
    """The present list of the newest conversations, then changes: created, titled, running,
    waiting, ended, deleted.
    """
    if request.method == "HEAD":
        return Response(headers=event_headers())

    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        async with services.feeds.open(user) as reader:
            yield _stream(request, services, reader)

    return EventStream(services.places, opened)


async def _stream(
    request: Request, services: WebServices, reader: FeedReader
) -> AsyncIterator[bytes]:
    checked = clock()
    yield sse.opening(retry_ms())
    async for events in reader:
        if clock() - checked >= RECHECK_SECONDS:
            checked = clock()
            if not _still_known(request, services):
                yield sse.comment("expired")
                return
        yield b"".join(sse.notice(msgspec.json.encode(event)) for event in events) or sse.comment(
            "heartbeat"
        )


def _still_known(request: Request, services: WebServices) -> bool:
    try:
        services.identify(request)
    except ApiProblem:
        return False
    return True
