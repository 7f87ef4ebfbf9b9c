"""Bodies of requests while they come in: how long they may be, how slow, and how much of them this process holds at a time."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from tokenwire.config.settings import Settings
from tokenwire.streams.limits.occupancy import Full, Occupancy
from tokenwire.web.problems import ApiProblem

SLOWEST_BYTES_PER_SECOND = 8 * 1024
"""What a body may take longer than its grace for: so many bytes more, one second more."""
SMALL_BYTES = 64 * 1024
"""Longer bodies are large ones: a part of the memory is not for them."""
_SHARE = 4
"""One user gets a quarter of the memory; a quarter is kept for small bodies."""
_SHARE_OF_ADDRESS = 2
"""One address gets half of it."""
_ALL = "all"


class BodyMemory:
    """Bytes of bodies, frames and unread answers that are held now: of everybody, of large ones, of one user, and of one address."""

    def __init__(self, limit: int) -> None:
        self.share = limit // _SHARE
        """The most that one user gets."""
        self._addresses = Occupancy(limit // _SHARE_OF_ADDRESS)
        self._users, self._all = Occupancy(self.share), Occupancy(limit)
        self._large = Occupancy(limit - self.share)

    def take(
        self, user: str | None, amount: int, *, large: bool = False, address: str | None = None
    ) -> None:
        """`large`: of a body that is. None: not known, not counted. Raises Full, and takes nothing."""
        with contextlib.ExitStack() as undo:
            for occupancy, name in self._counted(user, address, large=large):
                occupancy.take(name, amount)
                undo.callback(occupancy.release, name, amount)
            undo.pop_all()

    def release(
        self, user: str | None, amount: int, *, large: bool = False, address: str | None = None
    ) -> None:
        """Give back what was taken like this."""
        for occupancy, name in self._counted(user, address, large=large):
            occupancy.release(name, amount)

    @property
    def held(self) -> int:
        """Bytes, of everybody."""
        return self._all.taken(_ALL)

    def _counted(
        self, user: str | None, address: str | None, *, large: bool
    ) -> Iterator[tuple[Occupancy, str | None]]:
        yield self._users, user
        yield self._addresses, address
        yield self._all, _ALL
        if large:
            yield self._large, _ALL


class BufferedBody:
    """What is held of one body, of one socket's messages, or of one answer. A body that turns out to be large counts as such from its
    first byte."""

    def __init__(self, memory: BodyMemory, user: str | None, address: str | None = None) -> None:
        self._memory, self._user, self._address = memory, user, address
        self._amount, self._large = 0, False

    @property
    def most(self) -> int:
        """What can be held, while nothing else is."""
        return self._memory.share

    def be(self, amount: int, expected: int = 0) -> None:
        """It is so much now; `expected`: as long as the body says it is. Raises Full: then nothing is held."""
        self.release()
        large = max(amount, expected) > SMALL_BYTES
        self._memory.take(self._user, amount, large=large, address=self._address)
        self._amount, self._large = amount, large

    def release(self) -> None:
        """It is nothing any more."""
        self._memory.release(self._user, self._amount, large=self._large, address=self._address)
        self._amount = 0


@dataclass(frozen=True, slots=True)
class MinimumRate:
    """How a body has to come in. `grace`: what even the shortest may take; `gap`: between two pieces; `most`: in all."""

    grace: float
    gap: float
    most: float

    @classmethod
    def of(cls, settings: Settings) -> "MinimumRate":
        """As it is set."""
        return cls(settings.body_seconds, settings.body_gap_seconds, settings.max_body_seconds)

    def left(self, seconds: float, read: int) -> float:
        """How long the next piece may be waited for, `seconds` after the first and with so many bytes read."""
        return max(
            0.0,
            min(self.gap, min(self.grace + read / SLOWEST_BYTES_PER_SECOND, self.most) - seconds),
        )


class LimitedBody:
    """`receive` of one request. It refuses a body as soon as it is too long or too slow, whatever was announced."""

    def __init__(
        self, receive: Receive, scope: Scope, limit: int, pace: MinimumRate, held: BufferedBody
    ) -> None:
        """`limit`: bytes."""
        self._receive, self._announced, self._limit, self._pace, self._held = (
            receive,
            _announced_length(scope),
            limit,
            pace,
            held,
        )
        self._read = 0
        self._complete = False
        self._began: float | None = None

    async def __call__(self) -> Message:
        """See ASGI. Raises ApiProblem (408, 413, 503)."""
        if self._complete:
            return await self._receive()
        self._refuse_beyond(self._announced)
        message = await self._in_time()
        self._read += len(message.get("body", b""))
        self._refuse_beyond(self._read)
        self._hold()
        self._complete = not message.get("more_body", False)
        return message

    def release(self) -> None:
        """The body was understood: it is held no longer."""
        self._held.release()

    async def _in_time(self) -> Message:
        now = asyncio.get_running_loop().time()
        self._began = now if self._began is None else self._began
        try:
            async with asyncio.timeout(self._pace.left(now - self._began, self._read)):
                return await self._receive()
        except TimeoutError as error:
            raise ApiProblem("request_timeout", "The body comes too slowly.") from error

    def _refuse_beyond(self, length: int) -> None:
        if length > self._limit:
            raise ApiProblem("body_too_large", f"The body is longer than {self._limit} bytes.")

    def _hold(self) -> None:
        try:
            self._held.be(self._read, self._announced)
        except Full as error:
            raise ApiProblem(
                "over_capacity", "This server has as many bodies to read as it can."
            ) from error


@contextlib.contextmanager
def reading(body: LimitedBody) -> Iterator[LimitedBody]:
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
