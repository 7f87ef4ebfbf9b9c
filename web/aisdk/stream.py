"""One answer for one client of the AI SDK: rows and log in, UI message chunks out, until the answer has ended.

A full replay begins with what the row holds, a tail with what follows a position; both go on with the log as it grows. When the log
cannot be followed further (a new epoch, a gap) the row is read again and what the client shows is mended. What chunks look like is
decided by `web.aisdk.encoder`, how they travel by the callers: `sse` here, `chat_socket` for WebSocket.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from tokenwire.models.errors import NotFound, StoreUnavailable
from tokenwire.models.tables import Message
from tokenwire.models.views import message_view
from tokenwire.protocol import events
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.frames import Sendable, merge
from tokenwire.streams.log.ports import Gone, LogUnavailable, Page
from tokenwire.web import aisdk
from tokenwire.web.aisdk.encoder import AISDKEncoder, Held, Hole, held_as_of
from tokenwire.web.events import encoder as sse
from tokenwire.web.http.streaming import Cut, retry_ms
from tokenwire.web.problems import ApiProblem
from tokenwire.web.readers import Ended, Entries, Permission
from tokenwire.web.services import WebServices

log_line = structlog.get_logger(__name__)

LOOKS_BACK = (64, 1024, 10_000)
"""How many events before a position are read to find which part was open then: most often it is the one at the position."""
LOOK_BYTES = 16 * 1024 * 1024
"""A look back is wanted whole: far more than a log's window."""
PATIENCE_SECONDS = 5.0
OUTAGE_PAUSE_SECONDS = 1.0
RESYNC_SECONDS = 0.5
"""Everybody is told of a new epoch at once: they read their rows at some moment within this time."""
DELETED = "The conversation was deleted."
EXPIRED = "The login has expired."
_WHY = {"deleted": DELETED, "removed": "You take no part in this conversation any more."}


@dataclass(frozen=True, slots=True)
class Said:
    """Chunks, and the position that a client has reached with the last of them (None: none that could be gone on from)."""

    chunks: Sequence[aisdk.Chunk]
    position: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who reads which answer how. `after`: only what follows this position."""

    conversation_id: str
    message_id: str
    profile: aisdk.Profile
    permission: Permission
    after: Cursor | None = None


Heard = AsyncIterator[Sequence[Said]]
"""What there is to say, an empty sequence as a sign of life; ends with the answer."""


@contextlib.asynccontextmanager
async def viewing(services: WebServices, viewer: Viewer) -> AsyncIterator[Heard]:
    """The answer for this viewer. Refusals come at once: NotFound, Gone, Unavailable, ApiProblem (409: the position)."""
    said = _say(services, viewer)
    try:
        first = await anext(said)
        yield _after(first, said)
    finally:
        await said.aclose()


async def _after(first: Sequence[Said], rest: Heard) -> Heard:
    yield first
    async for said in rest:
        yield said


async def encoded(heard: Heard) -> AsyncIterator[bytes]:
    """As the body of a response: events with the position as their id, comments as signs of life, `[DONE]`."""
    yield sse.opening(retry_ms())
    async for said in heard:
        yield b"".join(_frames(item) for item in said) or aisdk.comment("heartbeat")
    yield aisdk.DONE


def _frames(said: Said) -> bytes:
    return aisdk.frames(said.chunks, None if said.position is None else str(said.position))


@dataclass(slots=True)
class _Begun:
    """An answer as far as it was told, and the position to follow the log from."""

    answer: AISDKEncoder
    said: list[Said]
    position: Cursor


async def _say(services: WebServices, viewer: Viewer) -> AsyncGenerator[Sequence[Said]]:
    begun = await (
        _tail(services, viewer, viewer.after) if viewer.after else _replay(services, viewer, None)
    )
    answer = begun.answer
    while not answer.ended:
        async with services.readers.follow(
            viewer.conversation_id, begun.position, viewer.permission
        ) as reader:
            yield begun.said
            if answer.ended:
                return
            async for part in reader:
                match part:
                    case Entries(entries, late):
                        if reader.cursor.epoch != begun.position.epoch:
                            break  # it forked: what was said counts in the log as it was
                        try:
                            said = _told(
                                answer, reader.cursor.epoch, merge(entries) if late else entries
                            )
                        except Hole as hole:
                            log_line.warning(
                                "an answer is read again",
                                message_id=viewer.message_id,
                                reason=str(hole),
                            )
                            break
                        if said:
                            yield said
                        if answer.ended:
                            return
                    case Ended():
                        if part.resync is None:
                            yield _parting(answer, part)
                            return
                    case _:
                        yield []
        await asyncio.sleep(random.uniform(0, RESYNC_SECONDS))  # noqa: S311 -- spreads load, guards nothing
        begun = await _again(services, viewer, answer)
    yield begun.said


def _told(answer: AISDKEncoder, epoch: str, entries: Iterable[Sendable]) -> list[Said]:
    said = []
    for entry in entries:
        seq, event = events.decode(entry.data)
        if chunks := answer.take(seq, event):
            said.append(Said(chunks, Cursor(epoch, seq)))
    return said


def _parting(answer: AISDKEncoder, ended: Ended) -> list[Said]:
    if ended.reason == "stopped":
        # An orderly end would look like the end of the answer: a broken connection makes clients come back.
        raise Cut
    return [Said(answer.fail(_WHY.get(ended.reason, EXPIRED)))]


# Beginnings


async def _replay(services: WebServices, viewer: Viewer, answer: AISDKEncoder | None) -> _Begun:
    """All there is so far; for an `answer` that is shown already, what changes."""
    # The log first: the row that is read later holds at least what lies before its position.
    page = await _look(services, viewer, None, 0)
    row = await _row(services, viewer)
    view = message_view(row, _exactly(page, row))
    held = (
        await _held(services, viewer, page, view["seq"])
        if view["seq"] and row.content + row.reasoning
        else None
    )
    opened = held.open if held else None
    if answer is None:
        answer = AISDKEncoder(view, viewer.profile)
        chunks = answer.begin(opened)
    else:
        chunks = answer.restate(view, opened)
    place = Cursor(page.epoch, view["seq"]) if held and chunks and not answer.ended else None
    return _Begun(answer, [Said(chunks, place)], page.cursor)


async def _again(services: WebServices, viewer: Viewer, answer: AISDKEncoder) -> _Begun:
    while True:
        try:
            return await _replay(services, viewer, answer)
        except (NotFound, Gone):
            return _Begun(answer, [Said(answer.fail(DELETED))], Cursor("gone", 0))
        except (LogUnavailable, StoreUnavailable) as error:
            log_line.warning(
                "an answer waits for a service", message_id=viewer.message_id, error=repr(error)
            )
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)


async def _tail(services: WebServices, viewer: Viewer, after: Cursor) -> _Begun:
    page = await _look(services, viewer, after.epoch, after.seq - 1, limit=1)
    shared = page.shared(after.epoch)
    held = (
        await _held(services, viewer, page, after.seq)
        if shared is not None and after.seq <= shared
        else None
    )
    if held is None:
        raise unservable()
    after = Cursor(page.epoch, after.seq)
    row = await _row(services, viewer)
    view = message_view(row, _exactly(page, row))
    if 0 < view["seq"] < after.seq:
        return await _caught_up(services, viewer, page, view, after)
    return _Begun(AISDKEncoder.after(view, held, viewer.profile), [], after)


async def _caught_up(
    services: WebServices, viewer: Viewer, page: Page, view: dict[str, Any], after: Cursor
) -> _Begun:
    """A full replay up to the position, of which nothing is told."""
    held = await _held(services, viewer, page, view["seq"])
    missed = await _look(services, viewer, page.epoch, view["seq"], limit=after.seq - view["seq"])
    if (
        held is None
        or missed.epoch != page.epoch
        or not missed.entries
        or missed.entries[-1].seq != after.seq
    ):
        raise unservable()
    answer = AISDKEncoder(view, viewer.profile)
    answer.begin(held.open)
    try:
        _told(answer, page.epoch, missed.entries)
    except Hole as error:
        raise unservable() from error
    return _Begun(answer, [], after)


def unservable() -> ApiProblem:
    """The answer to a position that nothing can be told from."""
    return ApiProblem(
        "cursor_lost",
        "Nothing can be told from this position on: read the whole answer, without a position.",
    )


async def message_at(services: WebServices, conversation_id: str, position: Cursor) -> str:
    """The id of the answer that the event at a position belongs to. Raises ApiProblem (409), Gone, Unavailable."""
    if position.seq > 0:
        async with _patience():
            page = await services.log.read(conversation_id, position.epoch, position.seq - 1, 1)
        for entry in page.entries if page.reached(*position) == position.seq else ():
            seq, event = events.decode(entry.data)
            message_id = getattr(event, "message_id", None)
            if seq == position.seq and isinstance(message_id, str):
                return message_id
    raise unservable()


async def _held(services: WebServices, viewer: Viewer, page: Page, seq: int) -> Held | None:
    """What a viewer holds who has seen everything up to `seq`; None where the log cannot tell any more."""
    for count in LOOKS_BACK:
        after = max(page.oldest - 1, seq - count, 0)
        found = await _look(services, viewer, page.epoch, after, limit=seq - after)
        if found.epoch != page.epoch or not found.entries or found.entries[-1].seq != seq:
            return None
        held = held_as_of(viewer.message_id, (events.decode(entry.data) for entry in found.entries))
        if held is not None or after <= page.oldest - 1:
            return held
    return None


async def _look(
    services: WebServices, viewer: Viewer, epoch: str | None, after: int, limit: int = 0
) -> Page:
    async with _patience():
        return await services.log.read(
            viewer.conversation_id, epoch, max(after, 0), limit, LOOK_BYTES
        )


@contextlib.asynccontextmanager
async def _patience() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield
    except TimeoutError as error:
        raise LogUnavailable("the log does not answer") from error


def _exactly(page: Page, row: Message) -> int:
    """The seq that the row's text reaches, 0 where the log lacks some of it: chunks have no offsets, nothing may be told twice."""
    reached = page.reached(row.epoch, row.seq)
    return reached if reached == row.seq else 0


async def _row(services: WebServices, viewer: Viewer) -> Message:
    row = await services.store.message(viewer.message_id)
    if row is None or row.conversation_id != viewer.conversation_id:
        raise NotFound("message")
    return row
