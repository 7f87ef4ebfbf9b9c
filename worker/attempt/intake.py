"""How an attempt takes what its provider sends: in a task, until the stream ends or is left.

A run that goes on without us, such as a background response, is named by its first bytes. An
attempt that left before them would leave behind a run that the user pays for and that nobody can
name, attach to or end. So an attempt that leaves then is let go at once, and the stream is read on
for some seconds, until it names the run.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog

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
"""How long a run that was just asked for may take to name itself once the attempt has left it."""
STALL_GRACE_SECONDS = 1.0
"""Providers watch their own silence; this is the second watch, for one whose adapter hangs."""


def clock() -> float:
    """Seconds, by the loop's clock."""
    return asyncio.get_running_loop().time()


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
        """For how long the provider has let us wait in vain."""
        return clock() - self._heard if self._listening and not self.over else 0.0

    @property
    def over(self) -> bool:
        """Nothing more comes, or what comes is not taken."""
        return self._left or (self._task is not None and self._task.done())

    def stall(self) -> ProviderError | None:
        """The failure that the provider's silence is, if it has lasted for too long."""
        silent = self.silent_seconds
        if silent <= self._stall_seconds:
            return None
        kind = Interrupted if self._draft.emitted else Unavailable
        return kind(f"nothing heard for {silent:.0f} s", code="stalled")

    async def read(self, provider: Provider, request: Request) -> None:
        """Until the stream has ended or is left."""
        self._stall_seconds = provider.stall_seconds + STALL_GRACE_SECONDS
        self._task = task = asyncio.create_task(self._run_through(provider, request))
        lingering = asyncio.create_task(self._lingers.wait())
        try:
            await self._until(task, lingering)
        finally:
            lingering.cancel()
        if task.done() and not task.cancelled():
            task.result()  # raises what is a bug of ours

    def leave(self) -> None:
        """Nothing more is wanted, but for the name of a run that has yet to tell it."""
        if self._left or self._task is None:
            return
        self._left = True
        if self._stream is not None and self._stream.naming:
            asyncio.get_running_loop().call_later(NAMING_SECONDS, self._task.cancel)
            self._lingers.set()
        else:
            self._task.cancel()

    async def closed(self) -> None:
        """Wait until the stream is left."""
        if self._task is not None:
            await self._until(self._task)

    async def _until(self, task: "asyncio.Task[None]", *others: "asyncio.Task[Any]") -> None:
        """Until one of them is done. Whoever is cancelled here leaves the stream first."""
        try:
            await asyncio.wait((task, *others), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,))
            raise

    async def _run_through(self, provider: Provider, request: Request) -> None:
        """Reports the end in the very step in which it is known: what comes later comes second."""
        ended = await self._read(provider, request)
        if not self._left:
            self._left = True
            self._report(ended)

    async def _read(self, provider: Provider, request: Request) -> Finished | Failed:
        try:
            await self._ignoring_silence(self._begin())
            async with provider.stream(request) as stream:
                self._stream = stream
                # A run is ended by what SQL says of it (`run_ender`), not by whoever leaves it.
                stream.keep()
                try:
                    await self._listen(stream)
                finally:
                    self._run.over = stream.run_over
        except ProviderError as error:
            return Failed(error)
        except Exception as error:  # a bug in an adapter must not leave the answer hanging
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
                    "answer ended: it is as long as it may be",
                    message_id=self._draft.message_id,
                )
                return
            await self._room()

    async def _take(self, batch: Sequence[Delta]) -> bool:
        """False: the stream was left meanwhile."""
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
        """The provider is not read further than it may run ahead of the log."""
        if self._writer.backlogged:
            await self._ignoring_silence(self._writer.room())

    async def _note_run(self, stream: DeltaStream, cursor: int | None) -> None:
        """Save the name of a run before any text. A name of our own choice is known before that."""
        if self._run.learn(stream, cursor) and not self._left:
            await self._ignoring_silence(self._save_run())

    async def _ignoring_silence(self, work: Awaitable[object]) -> None:
        """Do something else than listen to the provider, whose silence does not count meanwhile."""
        self._listening = False
        await work
        self._listening, self._heard = True, clock()
