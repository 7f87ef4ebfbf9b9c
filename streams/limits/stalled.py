"""Cuts off clients that do not read: those that take nothing for a while.

A paused connection holds more than its transport wants to buffer, and nothing is written to it
until the client has taken some. So its buffer can only shrink. If it does not, the client is gone
or does not read, and would keep its slot for ever. Bytes in the kernels' buffers (megabytes) count
as taken, because the kernel does not report whether they were read.
"""

import asyncio
from collections.abc import Callable


class StalledWrites(asyncio.BaseProtocol):
    """A mixin for protocols that watches the client while writing is paused.

    It comes before the main base class.

    `connection_made` sets `_stalled`.
    """

    _stalled: "Stalled"

    def pause_writing(self) -> None:
        """The buffer is too full."""
        super().pause_writing()
        self._stalled.paused()

    def resume_writing(self) -> None:
        """There is room again."""
        super().resume_writing()
        self._stalled.over()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._stalled.over()
        super().connection_lost(exc)


class Stalled:
    """Watches one connection while it is paused.

    Calls `cut` once if nothing was taken for `seconds`.
    """

    __slots__ = ("_cut", "_left", "_loop", "_seconds", "_timer", "_transport")

    def __init__(
        self, transport: asyncio.WriteTransport, seconds: float, cut: Callable[[], None]
    ) -> None:
        self._transport, self._seconds, self._cut = transport, seconds, cut
        self._loop = asyncio.get_running_loop()
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None

    def paused(self) -> None:
        """The buffer is too full."""
        self.over()
        self._check_later()

    def over(self) -> None:
        """There is room again, or the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_later(self) -> None:
        self._left = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._seconds, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._transport.get_write_buffer_size() < self._left:
            self._check_later()
        else:
            self._cut()
