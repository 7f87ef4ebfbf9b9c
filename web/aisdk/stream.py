"""One answer for one client of the AI SDK: UI message chunks, until the answer has ended or waits.

A stream ends at `wait`, so that the client can answer. A `wait` that is over, or that a cancel is
about to end, ends nothing: a client that has answered would at once send its answer again. So the
rows are read before the end: if they say more of the calls than the stream has shown, an attempt is
about to show it, and to go on or to wait again.

A post that may steer has no id to show before it is known which answer has its message: its own, or
a running one that has taken it in. Until then its stream has signs of life only. Then it is the
whole stream of that answer, under that answer's id, as a client that resumes gets it.

`web.watching` gives events, `web.aisdk.encoder` makes chunks of them; how those travel is decided
by the callers: `encoded` here for server-sent events, `web.aisdk.socket` for WebSocket.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from itertools import chain

from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.models.steering import STEER, STEERED
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
from tokenwire.web.watching import (
    WATCH_RETRY_SECONDS,
    CutOff,
    News,
    Quiet,
    Update,
    Updates,
    watch,
)

ChunkBatch = tuple[Sequence[aisdk.UIChunk], Cursor | None]
"""Chunks (none: a sign of life), and the client's cursor after the last one.

None: no cursor to resume from.
"""
Opened = contextlib.AbstractAsyncContextManager[AsyncIterator[ChunkBatch]]


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
        encoding = _Encoding(services, AISDKEncoder(answer, message_view(first.row), profile))
        if first.row.while_running == STEER and not first.known:
            follow = partial(chunk_batches, services, profile=profile, permission=permission)
            yield encoding.encode_steering(first, updates, follow)
        else:
            yield encoding.encode(first, updates, continued, known=first.known)


class _Encoding:
    """The stream of one reader."""

    def __init__(self, services: WebServices, encoder: AISDKEncoder) -> None:
        self._services, self._encoder = services, encoder

    async def encode_steering(
        self, first: News, updates: Updates, follow: Callable[[str], Opened]
    ) -> AsyncIterator[ChunkBatch]:
        """The same of a post that may steer. `follow`: the stream of another answer."""
        encoder, begun = self._encoder, _begun(self._encoder.answer, first)
        while begun is None:
            yield [], None
            if (update := await anext(updates, None)) is None:
                return
            begun = _begun(encoder.answer, update)
        if encoder.answer.by != STEERED:
            async for batch in self.encode(begun, updates):
                yield batch
            return
        try:
            while (taken_in_by := await self._taken_in_by()) is None:
                yield [], None
                await asyncio.sleep(WATCH_RETRY_SECONDS)
            async with follow(taken_in_by) as found:
                async for batch in found:
                    yield batch
        except NotFound:
            yield [*encoder.opening(), *encoder.failure("deleted")], None

    async def _taken_in_by(self) -> str | None:
        """The answer that has this post's message; None while the database is away. Raises
        NotFound.
        """
        try:
            row = await self._services.store.message(self._encoder.answer.id)
        except StoreUnavailable:
            return None
        if row is None or row.superseded_by is None:
            raise NotFound("message")
        return row.superseded_by

    async def encode(
        self,
        first: Update,
        updates: Updates,
        continued: Continued | None = None,
        *,
        known: bool = False,
    ) -> AsyncIterator[ChunkBatch]:
        """`known`: the reader holds the first update."""
        encoder = self._encoder
        opening, (begun, cursor) = encoder.opening(), _batch(encoder, first)
        if continued is not None:
            yield encoder.continued(is_torn=continued.is_torn), None
        elif not known:
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


def _begun(answer: Answer, update: Update) -> Update | None:
    """The update, from where the answer does not wait its turn any more. None: it still does."""
    match update:
        case CutOff():
            return update
        case News():
            for folded in update.folded:
                if answer.status != "queued":
                    update.folded = chain([folded], update.folded)
                    return update
    return None


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
