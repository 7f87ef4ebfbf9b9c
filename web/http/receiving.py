"""Bodies of requests as they arrive: their length, their speed, and this process's memory for
them.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from starlette.types import Message, Receive, Scope

from tokenwire.config.clock import clock
from tokenwire.config.settings import Settings
from tokenwire.streams.limits.occupancy import Full, Occupancy
from tokenwire.web.problems import ApiProblem

SLOWEST_BYTES_PER_SECOND = 8 * 1024
"""Each second beyond the grace must bring this many bytes."""
SMALL_BYTES = 64 * 1024
"""Longer bodies count as large, and cannot use a part of the memory."""
_SHARE = 4
"""One user gets a quarter of the memory; one quarter is reserved for small bodies."""
_SHARE_OF_ADDRESS = 2
"""One address gets half of the memory."""
_ALL = "all"


class BodyMemory:
    """Bytes of bodies, frames and unread answers held now: in total, of large ones, of one user, of
    one address.
    """

    def __init__(self, limit: int) -> None:
        self.share = limit // _SHARE
        """The maximum of one user."""
        self._addresses = Occupancy(limit // _SHARE_OF_ADDRESS)
        self._users, self._all = Occupancy(self.share), Occupancy(limit)
        self._large = Occupancy(limit - self.share)

    def take(
        self, user: str | None, amount: int, *, large: bool = False, address: str | None = None
    ) -> None:
        """Count `amount` more bytes. `large`: they belong to a large body. `user` or `address`
        None: unknown, and not limited. Raises Full, and counts nothing then.
        """
        with contextlib.ExitStack() as undo:
            for occupancy, name in self._counted(user, address, large=large):
                occupancy.take(name, amount)
                undo.callback(occupancy.release, name, amount)
            undo.pop_all()

    def release(
        self, user: str | None, amount: int, *, large: bool = False, address: str | None = None
    ) -> None:
        """Count these bytes no more. The arguments are those of `take`."""
        for occupancy, name in self._counted(user, address, large=large):
            occupancy.release(name, amount)

    @property
    def held(self) -> int:
        """Bytes in total."""
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
    """The memory of one body, one socket's messages, or one answer. A body that becomes large
    counts as large from its first byte.
    """

    def __init__(self, memory: BodyMemory, user: str | None, address: str | None = None) -> None:
        self._memory, self._user, self._address = memory, user, address
        self._amount, self._large = 0, False

    @property
    def most(self) -> int:
        """The most bytes that this body may hold while no other body holds any."""
        return self._memory.share

    def be(self, amount: int, expected: int = 0) -> None:
        """Set the number of bytes held. `expected`: the announced length. Raises Full, and holds
        nothing then.
        """
        self.release()
        large = max(amount, expected) > SMALL_BYTES
        self._memory.take(self._user, amount, large=large, address=self._address)
        self._amount, self._large = amount, large

    def release(self) -> None:
        """Release all bytes held."""
        self._memory.release(self._user, self._amount, large=self._large, address=self._address)
        self._amount = 0


@dataclass(frozen=True, slots=True)
class MinimumRate:
    """The required speed of a body. `grace`: time even for the shortest; `gap`: between two pieces;
    `most`: in total.
    """

    grace: float
    gap: float
    most: float

    @classmethod
    def of(cls, settings: Settings) -> "MinimumRate":
        """The limits of the settings."""
        return cls(settings.body_seconds, settings.body_gap_seconds, settings.max_body_seconds)

    def left(self, seconds: float, read: int) -> float:
        """How long to wait for the next piece, `seconds` after the first and with this many bytes
        read.
        """
        return max(
            0.0,
            min(self.gap, min(self.grace + read / SLOWEST_BYTES_PER_SECOND, self.most) - seconds),
        )


class LimitedBody:
    """`receive` of one request. It refuses a body as soon as it is too long or too slow, whatever
    its announced length.
    """

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
        """The next ASGI message. Raises ApiProblem (408, 413, 503)."""
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
        """The body was parsed: release its memory."""
        self._held.release()

    async def _in_time(self) -> Message:
        now = clock()
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
                "over_capacity", "This server has no memory for another body."
            ) from error


@contextlib.contextmanager
def reading(body: LimitedBody) -> Iterator[LimitedBody]:
    """Release at the end what is still held."""
    try:
        yield body
    finally:
        body.release()


def _announced_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:18])
    return 0
