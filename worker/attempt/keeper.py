"""Renews an attempt's lease, and checks for silence and for absent readers.

Each renewal reports a cancel, or the loss of the claim. Between two renewals, the keeper checks
whether the provider is silent for too long, and whether anybody still reads the answer.
"""

import asyncio
import contextlib
from collections.abc import Callable

from tokenwire.config.background import supervise
from tokenwire.config.clock import clock
from tokenwire.models.tables import Message as Message
from tokenwire.providers.base import ProviderError
from tokenwire.streams.log import ports
from tokenwire.worker.attempt.lifecycle import CancelAsked, Failed, Verdict
from tokenwire.worker.attempt.writing import LogWriter
from tokenwire.worker.services import WorkerServices


class Keeper:
    """Renews the lease four times while it lasts, and once more when a cancel may have come.

    `end` ends the attempt. `stall` gives the failure that the provider's silence is, if it is one.
    """

    def __init__(
        self,
        services: WorkerServices,
        row: Message,
        writer: LogWriter,
        end: Callable[[Verdict], None],
        stall: Callable[[], ProviderError | None],
    ) -> None:
        self._log, self._conversation_id = services.log, row.conversation_id
        self._terms, self._lease_seconds = services.terms, services.lease_seconds
        self._writer, self._end, self._stall = writer, end, stall
        self._pause_seconds = services.lease_seconds / 4
        self._cancel_may_have_come = asyncio.Event()
        self._time = asyncio.get_running_loop().time  # for every thread
        self._held_until = 0.0
        self._watched = clock()

    def start(self) -> "asyncio.Task[None]":
        """Start to renew the lease, in a task."""
        self._task = asyncio.create_task(
            supervise("keeper", self._keep, longest_pause_seconds=self._pause_seconds)
        )
        return self._task

    def stop(self) -> None:
        """Stop renewing the lease."""
        self._task.cancel()

    @property
    def holds(self) -> bool:
        """Whether the lease holds for half of its time yet, by the monotonic clock. Any thread."""
        return self._time() < self._held_until - self._lease_seconds / 2

    def check_cancel(self) -> None:
        """Renew now instead of later: somebody may have requested a cancel."""
        self._cancel_may_have_come.set()

    async def _keep(self) -> None:
        while True:
            await self._until_renewal()
            if (stalled := self._stall()) is not None:
                self._end(Failed(stalled))
            try:
                await self._check_readers()
                await self._renew()
            except ports.LogUnavailable:
                continue

    async def _until_renewal(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_seconds):
                await self._cancel_may_have_come.wait()
        self._cancel_may_have_come.clear()

    async def _check_readers(self) -> None:
        longest = self._terms.cancel_without_readers_seconds
        if not longest or await self._log.has_readers(self._conversation_id):
            self._watched = clock()
        elif clock() - self._watched > longest:
            self._end(CancelAsked("no_readers"))

    async def _renew(self) -> None:
        asked = self._time()
        try:
            by = await self._log.renew(self._writer.claim, self._lease_seconds)
        except ports.Lost:
            self._writer.lose()
        except ports.Refused:
            self._writer.disown()
        else:
            self._held_until = asked + self._lease_seconds
            if by is not None:
                self._end(CancelAsked(by))
