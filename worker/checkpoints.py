"""Periodic checkpoints: all running generations of this process in one statement, every second, or at once past a size."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from models.errors import StoreUnavailable
from models.generations import Checkpoint
from models.store import Store

log_line = structlog.get_logger(__name__)
MIN_PAUSE_SECONDS = 0.1
"""Between two checkpoints, however fast text comes: one statement at a time, and room for everybody else's."""


class Checkpointed(Protocol):
    """What the checkpointer needs of a running attempt."""

    @property
    def uncheckpointed(self) -> int:
        """Characters acknowledged and not yet saved."""
        ...

    def checkpoint(self) -> Checkpoint:
        """What is to be saved now; nothing is unsaved then, unless saving fails (`not_saved`)."""
        ...

    def saved(self, checkpoint: Checkpoint) -> None:
        """This checkpoint is in the database."""
        ...

    def not_saved(self) -> None:
        """The last checkpoint did not reach the database."""
        ...


class Checkpointer:
    """Saves what is dirty, `seconds` apart, or earlier when one answer has grown by `chars`."""

    def __init__(self, store: Store, seconds: float, chars: int) -> None:
        self._store = store
        self._seconds = seconds
        self._chars = chars
        self._early = asyncio.Event()

    def grown(self, attempt: Checkpointed) -> None:
        """An append was acknowledged; enough new text asks for a checkpoint before its time."""
        if attempt.uncheckpointed >= self._chars:
            self._early.set()

    async def run(self, running: Callable[[], Iterable[Checkpointed]]) -> None:
        """Until cancelled. `running` gives the attempts of this process."""
        while True:
            started = asyncio.get_running_loop().time()
            await self._wait()
            await self.save(running())
            await asyncio.sleep(max(0.0, MIN_PAUSE_SECONDS - (asyncio.get_running_loop().time() - started)))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._early.wait()
        except TimeoutError:
            pass
        self._early.clear()

    async def save(self, attempts: Iterable[Checkpointed]) -> None:
        """Save every dirty attempt now. Without the database they stay dirty, and the next round tries again."""
        dirty = [attempt for attempt in attempts if attempt.uncheckpointed > 0]
        if not dirty:
            return
        items = [attempt.checkpoint() for attempt in dirty]
        try:
            await self._store.checkpoint(items)
        except StoreUnavailable as error:
            log_line.warning("checkpoint failed", generations=len(items), error=repr(error))
            for attempt in dirty:
                attempt.not_saved()
            return
        for attempt, item in zip(dirty, items, strict=True):
            attempt.saved(item)
