"""The jobs and attempts of one process, and how it hands them over."""

import asyncio
import contextlib
from collections.abc import Collection, Iterator

from tokenwire.worker.attempt.intake import NAMING_SECONDS
from tokenwire.worker.attempt.lifecycle import HandedOver
from tokenwire.worker.attempt.run import Attempt


class Running:
    """The attempts that run now. `lease_seconds`: the longest that a hand-over takes."""

    def __init__(self, lease_seconds: float) -> None:
        self.draining = self.handing_over = False
        self._lease_seconds = lease_seconds
        self._attempts: dict[str, Attempt] = {}
        self._jobs = 0
        self._emptied = asyncio.Event()

    @property
    def attempts(self) -> Collection[Attempt]:
        """The attempts that run in this process now."""
        return list(self._attempts.values())

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        """Count a job as running during the block."""
        self._jobs += 1
        try:
            yield
        finally:
            self._jobs -= 1
            if not self._jobs:
                self._emptied.set()

    @contextlib.contextmanager
    def attempt(self, attempt: Attempt) -> Iterator[None]:
        """Count this attempt as running during the block."""
        self._attempts[attempt.message_id] = attempt
        if self.handing_over:
            attempt.stop(HandedOver())
        try:
            yield
        finally:
            # A later attempt of the same answer may have begun here.
            if self._attempts.get(attempt.message_id) is attempt:
                del self._attempts[attempt.message_id]

    def check_cancel(self, message_id: str) -> None:
        """A cancel was requested for this message. Its attempt, if it runs here, asks the log."""
        if (attempt := self._attempts.get(message_id)) is not None:
            attempt.check_cancel()

    async def drain(self, seconds: float) -> None:
        """Let attempts run for `seconds`, then hand them to other workers."""
        self.draining = True
        if not await self._empty_within(seconds):
            self.handing_over = True
            for attempt in self.attempts:
                attempt.stop(HandedOver())
            await self._empty_within(self._lease_seconds + NAMING_SECONDS)

    async def _empty_within(self, seconds: float) -> bool:
        """Whether every job ends in time, including jobs that are no attempts yet."""
        self._emptied.clear()
        if not self._jobs:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._emptied.wait()
        except TimeoutError:
            return False
        return True
