"""Answers of requests as they are sent: this process's memory for clients that read slowly or not
at all.
"""

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from tokenwire.streams.limits.occupancy import Full
from tokenwire.web.http.receiving import SMALL_BYTES, BufferedBody
from tokenwire.web.http.refusals import refusal
from tokenwire.web.problems import ROOM_AFTER_SECONDS, ApiProblem


class TrackedSend:
    """`send` of one request. `begun`: its answer has begun, so it is too late to refuse it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


class Outgoing:
    """`send` of one request. A large answer is held until its client has taken nearly all of it.
    Without memory it is refused before the first byte if its request is `repeatable`: a read, or a
    cancel.

    A post has created something by then, and is answered without being counted: posts are few.
    Streams have no length: they wait for their clients piece by piece, their number is limited, and
    they are not counted here.
    """

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, held: BufferedBody, *, repeatable: bool
    ) -> None:
        self._scope, self._receive, self._send, self._held, self._repeatable = (
            scope,
            receive,
            send,
            held,
            repeatable,
        )
        self._large = self._refused = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif self._refused:
            pass  # the refusal has replaced this answer
        elif (
            self._large
            and message["type"] == "http.response.body"
            and not message.get("more_body", False)
        ):
            # The server waits for the client before each piece, and never after the last: so the
            # last one is empty.
            await self._send({**message, "more_body": True})
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        # Even the largest answer can be read alone.
        length = int(Headers(raw=message.get("headers", [])).get("content-length", "0"))
        self._large = length > SMALL_BYTES
        try:
            self._held.be(min(length, self._held.most) if self._large else 0)
        except Full:
            self._refused = self._repeatable
        if self._refused:
            problem = ApiProblem(
                "over_capacity",
                "This server has no memory for another unread answer.",
                {"Retry-After": str(ROOM_AFTER_SECONDS)},
            )
            await refusal(self._scope["path"], problem)(self._scope, self._receive, self._send)
        else:
            await self._send(message)
