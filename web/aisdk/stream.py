"""One answer for one client of the AI SDK: UI message chunks, until the answer has ended.

`web.watching` gives events, `web.aisdk.encoder` makes chunks of them; how those travel is decided
by the callers: `encoded` here for server-sent events, `web.aisdk.socket` for WebSocket.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

from tokenwire.models.errors import NotFound
from tokenwire.models.views import message_view
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.fold import Answer
from tokenwire.web import aisdk
from tokenwire.web.aisdk.encoder import AISDKEncoder
from tokenwire.web.events import encoder as sse
from tokenwire.web.http.streaming import Cut, retry_ms
from tokenwire.web.readers import Permission
from tokenwire.web.services import WebServices
from tokenwire.web.watching import CutOff, News, Quiet, Update, Updates, watch

ChunkBatch = tuple[Sequence[aisdk.UIChunk], Cursor | None]
"""Chunks (none: a sign of life), and the client's cursor after the last one.

None: no cursor to resume from.
"""


@contextlib.asynccontextmanager
async def chunk_batches(
    services: WebServices,
    message_id: str,
    profile: aisdk.Profile,
    permission: Permission,
    after: Cursor | None = None,
) -> AsyncIterator[AsyncIterator[ChunkBatch]]:
    """The answer for a reader. Raises NotFound, and what `watch` raises for a cursor."""
    answer = Answer(message_id)
    async with contextlib.aclosing(watch(services, answer, permission, after)) as updates:
        first = await anext(updates)
        while isinstance(first, Quiet):  # neither row nor log can be read: nothing can be sent
            first = await anext(updates)
        if isinstance(first, CutOff) or first.row is None:
            raise NotFound("message")
        encoder = AISDKEncoder(answer, message_view(first.row), profile)
        yield _encode(encoder, first, updates)


async def _encode(
    encoder: AISDKEncoder, first: News, updates: Updates
) -> AsyncIterator[ChunkBatch]:
    opening, (begun, cursor) = encoder.opening(), _batch(encoder, first)
    if not first.known:
        yield [*opening, *begun], cursor
    async for update in updates:
        yield _batch(encoder, update)


def _batch(encoder: AISDKEncoder, update: Update) -> ChunkBatch:
    match update:
        case News(folded):
            chunks = [chunk for event in folded for chunk in encoder.apply(*event)]
            return chunks, update.cursor
        case CutOff("stopped"):
            # An orderly end would look like the end of the answer: clients reconnect after a cut.
            raise Cut
        case CutOff(reason):
            return encoder.failure(reason), None
        case Quiet():
            return encoder.quiet(), None


async def encoded(found: AsyncIterator[ChunkBatch]) -> AsyncIterator[bytes]:
    """The body of a response: the cursor is the id of the last chunk; `[DONE]` at the end."""
    yield sse.opening(retry_ms())
    async for chunks, cursor in found:
        event_id = None if cursor is None else str(cursor)
        yield aisdk.frames(chunks, event_id) or aisdk.comment("heartbeat")
    yield aisdk.DONE
