"""A client that waits for an answer: as a stream, or until its end."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from fastapi import Request, Response

from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.parts import shown_answer
from tokenwire.models.tables import Message
from tokenwire.models.tool_choices import read
from tokenwire.protocol.events import AnyEvent, PartEvent
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.sent import Withdrawn
from tokenwire.web.http.departure import ClientGone, until_gone
from tokenwire.web.http.streaming import Cut
from tokenwire.web.openai import encoder as encoding
from tokenwire.web.openai import responses
from tokenwire.web.openai.errors import OpenAIProblem, OpenAIStream
from tokenwire.web.openai.objects import Head
from tokenwire.web.openai.pictures import Pictures
from tokenwire.web.openai.tools import functions_of, shown_choice, shown_tools
from tokenwire.web.readers import ITEM_BYTES, Permission, still_allowed
from tokenwire.web.services import WebServices
from tokenwire.web.watching import CutOff, Folded, News, Quiet, Updates, watch
from tokenwire.worker import closing


class Encoder(Protocol):
    """A dialect (`web.openai.encoder`). `head` may be replaced before the terminal event."""

    answer: Answer
    head: Head
    shows_pictures: bool

    def opening(self) -> bytes: ...
    def apply(self, event: AnyEvent, touched: range, added: str) -> Iterable[bytes]: ...
    def quiet(self) -> bytes: ...
    def failure(self, reason: str) -> bytes: ...


def head_of(row: Message, pictures: Mapping[str, str] | None = None) -> Head:
    """The fields of a Response from the row. `pictures`: see `Head`."""
    choices = read(row.tools)
    return Head(
        id=row.id,
        model=row.model or "",
        created_at=row.created_at // 1000,
        asked=row.asked or {},
        completed_at=(row.ended_at or row.updated_at) // 1000,
        pictures={} if pictures is None else pictures,
        functions=functions_of(row),
        asks_caller=choices.caller_approves is not None,
        tools=shown_tools(choices),
        tool_choice=shown_choice(choices),
    )


async def response_of(services: WebServices, user: str, row: Message) -> dict[str, Any]:
    """The Response of a row, with its images. Raises StoreUnavailable."""
    answer, pictures = shown_answer(row), Pictures(services, user)
    await pictures.read(answer)
    return responses.response(head_of(row, pictures.shown), answer)


def is_passing(row: Message) -> bool:
    """A request with `store: false`: the answer lives as long as the request."""
    return (row.asked or {}).get("store") is False


async def forget(services: WebServices, row: Message) -> None:
    await closing.delete_conversation(services.store, services.log, row.conversation_id)


class Asking:
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
        self.pictures = Pictures(services, user)
        self._permission = Permission(check=self._may_read, user_id=user)

    def stream(self, make: Callable[[Answer, Head], Encoder]) -> Response:
        """The answer in a dialect, until it ends."""
        answer = Answer(self._row.id)

        @contextlib.asynccontextmanager
        async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
            async with contextlib.aclosing(
                watch(self._services, answer, self._permission)
            ) as updates:
                try:
                    head = head_of(self._row, self.pictures.shown)
                    yield self._stream(make(answer, head), updates)
                finally:
                    await self._leave()

        return OpenAIStream(self._services.places, opened)

    async def wait(self, *, with_pictures: bool = False) -> Message:
        """The answer at its end, and `pictures` if it needs them. Raises OpenAIProblem."""
        with self._services.places.take():
            try:
                last = ended_row(self._services, self._row, self._permission)
                ended = await until_gone(self._request.receive, last)
                self._ended = True
                if with_pictures:  # an answer that is not stored is deleted with this call
                    await self.pictures.read(shown_answer(ended))
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
                        with _cut_by_outages():
                            row = await self._services.store.message(self._row.id)
                        encoder.head = head_of(row or self._row, self.pictures.shown)
                    try:
                        async for portion in self._joined(encoder, folded):
                            yield portion
                    except Withdrawn:
                        yield encoder.failure(encoding.RESTARTED)
                        return
                case CutOff("stopped"):
                    raise Cut
                case CutOff(reason):
                    yield encoder.failure(reason)
                case Quiet():
                    yield encoder.quiet()

    async def _joined(self, encoder: Encoder, folded: Iterable[Folded]) -> AsyncIterator[bytes]:
        """One write for all blocks that come together, unless they are long."""
        held: list[bytes] = []
        size = 0
        for event in folded:
            if encoder.shows_pictures and _is_about_file(event[0]):
                with _cut_by_outages():
                    await self.pictures.read(encoder.answer)
            for portion in encoder.apply(*event):
                held.append(portion)
                size += len(portion)
                if size > ITEM_BYTES:
                    yield b"".join(held)
                    held, size = [], 0
        yield b"".join(held)

    async def _leave(self) -> None:
        """The client has left, or has everything."""
        if is_passing(self._row) and self._row.asked:
            await forget(self._services, self._row)
        elif self._cancels and not self._ended:
            with contextlib.suppress(StoreUnavailable):
                await self._services.cancels.cancel(self._row.id, self._user)

    async def _may_read(self) -> bool:
        async def ask() -> None:
            self._services.identify(self._request)
            await self._services.store.visible_message(self._row.id, self._user)

        return await still_allowed(ask)


def _is_about_file(event: AnyEvent) -> bool:
    return isinstance(event, PartEvent) and event.value.get("type") == "file"


async def ended_row(services: WebServices, row: Message, permission: Permission) -> Message:
    """The answer at its end. Raises OpenAIProblem if that cannot be seen."""
    async with contextlib.aclosing(watch(services, Answer(row.id), permission)) as updates:
        async for update in updates:
            if isinstance(update, CutOff):
                raise _cut_off(update)
    if (ended := await services.store.message(row.id)) is None:
        raise _cut_off(CutOff("deleted"))
    return ended


@contextlib.contextmanager
def _cut_by_outages() -> Iterator[None]:
    """A stream without the database is cut, and can be resumed: an orderly end would look like the
    end of the answer.
    """
    try:
        yield
    except StoreUnavailable as error:
        raise Cut from error


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
