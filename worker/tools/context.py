"""What a tool gets about its call, and what it may raise."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace


class ToolError(Exception):
    """A tool raises it if it failed and took no effect. Its text is a sentence for the model."""


class UnknownEffect(Exception):
    """A tool raises it if it may have taken effect, and cannot find out. Its text is a sentence for
    the model.
    """


class _Cancellation:
    """Is asked for once. May be used from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = threading.Event()
        self._waiting: list[Callable[[], None]] = []

    def ask(self) -> None:
        with self._lock:
            self._asked.set()
            waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def sleep(self, seconds: float) -> bool:
        return self._asked.wait(seconds)

    async def wait(self) -> None:
        loop, asked = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(asked.set)

        with self._lock:
            if self._asked.is_set():
                return
            self._waiting.append(wake)
        await asked.wait()


@dataclass(frozen=True, slots=True)
class ToolContext:
    """The call that a tool executes. A test of a tool makes its own: `ToolContext("key")`."""

    key: str
    """The idempotency key: the same for every run of one call, and for no other call."""
    user_id: str = ""
    """Who wrote the message that is answered."""
    conversation_id: str = ""
    message_id: str = ""
    """The answer to which the call belongs."""
    run: int = 1
    """1 for the first run of the call, 2 for the second, ..."""
    _cancellation: _Cancellation = field(default_factory=_Cancellation, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether the answer was cancelled, or the time of the call is over. From any thread."""
        return self._cancellation.asked

    def sleep(self, seconds: float) -> bool:
        """For functions that are not async: wait so long, or until the call is cancelled. Return
        whether it is.
        """
        return self._cancellation.sleep(seconds)

    async def wait_cancelled(self) -> None:
        """For async functions: wait until the call is cancelled. (Its task is cancelled, too.)"""
        await self._cancellation.wait()

    def apart(self) -> "ToolContext":
        """The same call, with a cancellation of its own."""
        return replace(self, _cancellation=_Cancellation())

    def cancel(self) -> None:
        """Cancel the call: whoever executes the tool does, and tests of a tool may."""
        self._cancellation.ask()
