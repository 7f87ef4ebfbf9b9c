"""One answer for one client of the AI SDK: UI message chunks, until the answer has ended or waits.

A stream ends at `wait`, so that the client can answer. A `wait` that is over, or that a cancel is
about to end, ends nothing: a client that has answered would at once send its answer again. So the
rows are read before the end: if they say more of the calls than the stream has shown, an attempt is
about to show it, and to go on or to wait again.

`web.watching` gives events, `web.aisdk.encoder` makes chunks of them; how those travel is decided
by the callers: `encoded` here for server-sent events, `web.aisdk.socket` for WebSocket.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence

from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.models.tables import CallRow
from tokenwire.models.views import message_view
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.fold import Answer
from tokenwire.web import aisdk
from tokenwire.web.aisdk.continued import Continued
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
    continued: Continued | None = None,
) -> AsyncIterator[AsyncIterator[ChunkBatch]]:
    """The answer for a reader. Raises NotFound, and what `watch` raises for a cursor."""
    answer = Answer(message_id)
    held = None if continued is None else continued.held
    watched = watch(services, answer, permission, after, held, withdrawn=False)
    async with contextlib.aclosing(watched) as updates:
        first = await anext(updates)
        while isinstance(first, Quiet):  # neither row nor log can be read: nothing can be sent
            first = await anext(updates)
        if isinstance(first, CutOff) or first.row is None:
            raise NotFound("message")
        encoder = AISDKEncoder(answer, message_view(first.row), profile)
        yield _Encoding(services, encoder).encode(first, updates, continued)


class _Encoding:
    """The stream of one reader."""

    def __init__(self, services: WebServices, encoder: AISDKEncoder) -> None:
        self._services, self._encoder = services, encoder

    async def encode(
        self, first: News, updates: Updates, continued: Continued | None
    ) -> AsyncIterator[ChunkBatch]:
        encoder = self._encoder
        opening, (begun, cursor) = encoder.opening(), _batch(encoder, first)
        if continued is not None:
            yield encoder.continued(is_torn=continued.is_torn), None
        elif not first.known:
            yield [*opening, *begun, *await self._paused()], cursor
        elif encoder.answer.status == "waiting":
            if await self._paused():
                return
            encoder.continued()  # its reader had the end of that stream
        while not encoder.ended and (update := await anext(updates, None)) is not None:
            chunks, cursor = _batch(encoder, update)
            yield [*chunks, *await self._paused()], cursor

    async def _paused(self) -> list[aisdk.UIChunk]:
        """The end of the stream, if something is awaited."""
        answer = self._encoder.answer
        if answer.status != "waiting":
            return []
        try:
            row = await self._services.store.message(answer.id)
            calls = await self._services.store.calls_of(answer.id)
        except StoreUnavailable:  # read again at the next sign of life
            return []
        is_open = row is not None and row.cancel_by is None
        return self._encoder.paused() if is_open and _is_shown(calls, answer) else []


def _is_shown(calls: Sequence[CallRow], answer: Answer) -> bool:
    """Whether the answer is as far as these rows. Otherwise an attempt is about to show them."""
    parts = answer.parts
    return all(
        call.number < len(parts) and parts[call.number].fields.get("state") == call.state
        for call in calls
    )


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
