"""Bodies of requests while they come in: how long they may be, how slow, and how much of them this process holds at a time."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from streams.occupancy import Full, Occupancy
from web.problems import ApiProblem

SLOWEST_BYTES_PER_SECOND = 8 * 1024
"""What a body may take longer than its grace for: so many bytes more, one second more."""
_SHARE = 4
"""One user gets a quarter of the memory for bodies."""
_ALL = "all"


class Memory:
    """Bytes of bodies and frames that are held now: of everybody together, and of one user."""

    def __init__(self, limit: int) -> None:
        self._users, self._all = Occupancy(limit // _SHARE), Occupancy(limit)

    def take(self, user: str | None, amount: int) -> None:
        """Raises Full."""
        self._users.take(user, amount)
        try:
            self._all.take(_ALL, amount)
        except Full:
            self._users.release(user, amount)
            raise

    def release(self, user: str | None, amount: int) -> None:
        """Give back."""
        self._users.release(user, amount)
        self._all.release(_ALL, amount)

    @property
    def held(self) -> int:
        """Bytes, of everybody."""
        return self._all.taken(_ALL)


@dataclass(frozen=True, slots=True)
class Terms:
    """`limit`: bytes. `seconds`: what even the shortest body may take."""

    limit: int
    seconds: float


class Body:
    """`receive` of one request. It refuses a body as soon as it is too long or too slow, whatever was announced."""

    def __init__(self, receive: Receive, scope: Scope, terms: Terms, memory: Memory, user: str | None) -> None:
        self._receive, self._announced, self._terms = receive, _announced_length(scope), terms
        self._memory, self._user = memory, user
        self._read = self._held = 0
        self._complete = False
        self._began: float | None = None

    async def __call__(self) -> Message:
        """See ASGI. Raises ApiProblem (408, 413, 503)."""
        if self._complete:
            return await self._receive()
        self._refuse_beyond(self._announced)
        message = await self._in_time()
        size = len(message.get("body", b""))
        self._read += size
        self._refuse_beyond(self._read)
        self._hold(size)
        self._complete = not message.get("more_body", False)
        return message

    def release(self) -> None:
        """The body was understood: it is held no longer."""
        held, self._held = self._held, 0
        self._memory.release(self._user, held)

    async def _in_time(self) -> Message:
        now = asyncio.get_running_loop().time()
        self._began = now if self._began is None else self._began
        try:
            async with asyncio.timeout_at(self._began + self._terms.seconds + self._read / SLOWEST_BYTES_PER_SECOND):
                return await self._receive()
        except TimeoutError as error:
            raise ApiProblem("request_timeout", "The body comes too slowly.") from error

    def _refuse_beyond(self, length: int) -> None:
        if length > self._terms.limit:
            raise ApiProblem("body_too_large", f"The body is longer than {self._terms.limit} bytes.")

    def _hold(self, size: int) -> None:
        try:
            self._memory.take(self._user, size)
        except Full as error:
            raise ApiProblem("over_capacity", "This server has as many bodies to read as it can.") from error
        self._held += size


@contextlib.contextmanager
def reading(body: Body) -> Iterator[Body]:
    """Give back at the end what is still held."""
    try:
        yield body
    finally:
        body.release()


def _announced_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:18])
    return 0
