"""Reads a provider's stream for an attempt, in a task, until the stream ends or is left.

A run that continues without us, such as a background response, is named by its first bytes. If an
attempt left the stream before them, nobody could attach to the run or end it, and the user would
pay for it. So if an attempt leaves that early, the attempt goes on at once, but the stream is read
for some more seconds, until it names the run.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

from tokenwire.config.clock import clock
from tokenwire.providers.base import (
    Delta,
    DeltaStream,
    Interrupted,
    Provider,
    ProviderError,
    Request,
    Unavailable,
)
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.lifecycle import Failed, Finished, Verdict
from tokenwire.worker.attempt.named_run import NamedRun
from tokenwire.worker.attempt.portions import portions
from tokenwire.worker.attempt.writing import LogWriter

log_line = structlog.get_logger(__name__)
NAMING_SECONDS = 5.0
"""How long a new run may take to name itself after the attempt has left it."""
STALL_GRACE_SECONDS = 1.0
"""Added to the provider's own limit of silence. It catches an adapter that hangs."""


class Intake:
    """One request of an attempt. `report` is told how it ended, unless it was left before.

    `begin` is done before it is sent, `save_run` as soon as its run has a name.
    """

    def __init__(
        self,
        draft: Draft,
        writer: LogWriter,
        run: NamedRun,
        report: Callable[[Verdict], None],
        begin: Callable[[], Awaitable[object]],
        save_run: Callable[[], Awaitable[None]],
    ) -> None:
        self._draft, self._writer, self._run = draft, writer, run
        self._report, self._begin, self._save_run = report, begin, save_run
        self._task: asyncio.Task[None] | None = None
        self._stream: DeltaStream | None = None
        self._left = False
        self._lingers = asyncio.Event()
        self._heard = clock()
        self._stall_seconds = math.inf
        self._listening = True

    @property
    def silent_seconds(self) -> float:
        """Seconds since the provider last sent anything."""
        return clock() - self._heard if self._listening and not self.over else 0.0

    @property
    def over(self) -> bool:
        """Whether the stream has ended or was left."""
        return self._left or (self._task is not None and self._task.done())

    def stall(self) -> ProviderError | None:
        """The error for the provider's silence if it lasts too long, else None."""
        silent = self.silent_seconds
        if silent <= self._stall_seconds:
            return None
        kind = Interrupted if self._draft.emitted else Unavailable
        return kind(f"nothing heard for {silent:.0f} s", code="stalled")

    async def read(self, provider: Provider, request: Request) -> None:
        """Read until the stream has ended or is left."""
        self._stall_seconds = provider.stall_seconds + STALL_GRACE_SECONDS
        self._task = task = asyncio.create_task(self._run_through(provider, request))
        lingering = asyncio.create_task(self._lingers.wait())
        try:
            await self._until(task, lingering)
        finally:
            lingering.cancel()
        if task.done() and not task.cancelled():
            task.result()  # raises errors that are our own bugs

    def leave(self) -> None:
        """Leave the stream. It is read on only if its run has no name yet."""
        if self._left or self._task is None:
            return
        self._left = True
        if self._stream is not None and self._stream.naming:
            asyncio.get_running_loop().call_later(NAMING_SECONDS, self._task.cancel)
            self._lingers.set()
        else:
            self._task.cancel()

    async def closed(self) -> None:
        """Wait until the stream is closed."""
        if self._task is not None:
            await self._until(self._task)

    async def _until(self, task: "asyncio.Task[None]", *others: "asyncio.Task[Any]") -> None:
        """Wait until the task is done or the stream is left. A cancellation leaves the stream."""
        try:
            await asyncio.wait((task, *others), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,))
            raise

    async def _run_through(self, provider: Provider, request: Request) -> None:
        """Read, and report the end without a wait in between: it must come before later reports."""
        ended = await self._read(provider, request)
        if not self._left:
            self._left = True
            self._report(ended)

    async def _read(self, provider: Provider, request: Request) -> Finished | Failed:
        try:
            await self._ignoring_silence(self._begin())
            async with provider.stream(request) as stream:
                self._stream = stream
                # `run_ender` ends runs by their rows in SQL. To leave a stream ends no run.
                stream.keep_run()
                try:
                    await self._listen(stream)
                finally:
                    self._run.over = stream.run_over
        except ProviderError as error:
            return Failed(error)
        except Exception as error:  # after a bug in an adapter, the answer must still end
            log_line.exception("provider adapter failed", message_id=self._draft.message_id)
            return Failed(error)
        if self._draft.finish is None:
            return Failed(Interrupted("the stream ended without a proof of completion"))
        return Finished()

    async def _listen(self, stream: DeltaStream) -> None:
        await self._note_run(stream, stream.cursor)
        async for batch in stream:
            await self._note_run(stream, None)
            if self._left:
                return
            if not await self._take(batch):
                return
            self._run.reached(stream)
            self._writer.wake()
            if self._draft.at_limit:
                log_line.warning(
                    "answer ended: it has reached its limits",
                    message_id=self._draft.message_id,
                )
                return
            await self._room()

    async def _take(self, batch: Sequence[Delta]) -> bool:
        """Take deltas. Returns False if the stream was left meanwhile."""
        self._heard = clock()
        for at, portion in enumerate(portions(batch)):
            if at:
                self._writer.wake()
                await asyncio.sleep(0)
                await self._room()
                if self._left:
                    return False
            self._draft.take(portion)
        return True

    async def _room(self) -> None:
        """Wait while the provider is too far ahead of the log."""
        if self._writer.backlogged:
            await self._ignoring_silence(self._writer.room())

    async def _note_run(self, stream: DeltaStream, cursor: int | None) -> None:
        """Save the name of a run before any text. A name that we choose is known even earlier."""
        if self._run.learn(stream, cursor) and not self._left:
            await self._ignoring_silence(self._save_run())

    async def _ignoring_silence(self, work: Awaitable[object]) -> None:
        """Await other work. Meanwhile the provider's silence does not count."""
        self._listening = False
        await work
        self._listening, self._heard = True, clock()
