"""One answer for one client of the AI SDK: UI message chunks, until the answer has ended.

`web.watching` gives events, `web.aisdk.encoder` makes chunks of them; how those travel is decided by
the callers: `encoded` here for server-sent events, `web.aisdk.socket` for WebSocket.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from tokenwire.models.errors import NotFound
from tokenwire.models.views import message_view
from tokenwire.protocol.cursors import Cursor
from tokenwire.web import aisdk
from tokenwire.web.aisdk.encoder import AISDKEncoder
from tokenwire.web.events import encoder as sse
from tokenwire.web.http.streaming import Cut, retry_ms
from tokenwire.web.readers import Permission
from tokenwire.web.services import WebServices
from tokenwire.web.watching import Left, News, Quiet, Step, Steps, watch


@dataclass(frozen=True, slots=True)
class Said:
    """Chunks (none: a sign of life), and the cursor that a client has reached with the last one.

    None: none from which it could resume.
    """

    chunks: Sequence[aisdk.Chunk]
    cursor: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who reads which answer how. `after`: only what follows this cursor."""

    message_id: str
    profile: aisdk.Profile
    permission: Permission
    after: Cursor | None = None


@contextlib.asynccontextmanager
async def viewing(services: WebServices, viewer: Viewer) -> AsyncIterator[AsyncIterator[Said]]:
    """The answer for this reader. Raises NotFound, and what `watch` raises for a cursor."""
    async with contextlib.aclosing(
        watch(services, viewer.message_id, viewer.permission, viewer.after)
    ) as steps:
        first = await anext(steps)
        while isinstance(first, Quiet):  # neither row nor log can be read: there is nothing to say
            first = await anext(steps)
        if isinstance(first, Left) or first.row is None:
            raise NotFound("message")
        yield _encode(AISDKEncoder(message_view(first.row), viewer.profile), first, steps)


async def _encode(encoder: AISDKEncoder, first: News, steps: Steps) -> AsyncIterator[Said]:
    opening, begun = encoder.opening(), _said(encoder, first)
    if not first.known:
        yield Said([*opening, *begun.chunks], begun.cursor)
    async for step in steps:
        yield _said(encoder, step)


def _said(encoder: AISDKEncoder, step: Step) -> Said:
    match step:
        case News(found, cursor):
            return Said([chunk for event in found for chunk in encoder.apply(event)], cursor)
        case Left("stopped"):
            # An orderly end would look like the end of the answer: clients come back from a cut.
            raise Cut
        case Left(reason):
            return Said(encoder.failure(reason))
        case Quiet():
            return Said(encoder.quiet())


async def encoded(said: AsyncIterator[Said]) -> AsyncIterator[bytes]:
    """As the body of a response: the cursor is the id of the last chunk; `[DONE]` at the end."""
    yield sse.opening(retry_ms())
    async for item in said:
        cursor = None if item.cursor is None else str(item.cursor)
        yield aisdk.frames(item.chunks, cursor) or aisdk.comment("heartbeat")
    yield aisdk.DONE
