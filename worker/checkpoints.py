"""Checkpoints: all attempts of a process in one statement, each second, or sooner past a size."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from tokenwire.models.answers import Checkpoint
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.worker.halves import by_halves
from tokenwire.worker.metrics import CHECKPOINTS_REFUSED

log_line = structlog.get_logger(__name__)
MIN_PAUSE_SECONDS = 0.1
"""Between two checkpoints, however fast text comes: others need the database, too."""
REFUSED_PAUSE_SECONDS = 10.0
"""How long an answer goes on without a checkpoint after the database has refused one of it."""


class Checkpointed(Protocol):
    """What the checkpointer needs of a running attempt."""

    @property
    def message_id(self) -> str:
        """Whose answer it is."""
        ...

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
    """Saves what is dirty, `seconds` apart, or earlier when one answer has grown by `chars`.

    All are saved in one statement. If the database refuses it, the answer that it cannot hold is
    searched for and set apart: it goes on without checkpoints, save for a try of its own now and
    then, and its log keeps what SQL does not hold. A row that somebody has locked is left out, and
    saved by the first round that finds it free.
    """

    def __init__(self, store: Store, seconds: float, chars: int) -> None:
        self._store = store
        self._seconds = seconds
        self._chars = chars
        self._early = asyncio.Event()
        self._apart: dict[Checkpointed, float] = {}
        """Attempts that were refused, and when they may be tried again."""
        self._locked: set[Checkpointed] = set()
        """Attempts whose rows were locked at the last try: they wait for the next round."""

    def grown(self, attempt: Checkpointed) -> None:
        """An append was acknowledged; enough new text asks for a checkpoint before its time."""
        if (
            attempt.uncheckpointed >= self._chars
            and attempt not in self._apart
            and attempt not in self._locked
        ):
            self._early.set()

    async def run(self, running: Callable[[], Iterable[Checkpointed]]) -> None:
        """Until cancelled. `running` gives the attempts of this process."""
        while True:
            started = asyncio.get_running_loop().time()
            await self._wait()
            await self.save(running())
            await asyncio.sleep(
                max(0.0, MIN_PAUSE_SECONDS - (asyncio.get_running_loop().time() - started))
            )

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._early.wait()
        except TimeoutError:
            pass
        self._early.clear()

    async def save(self, attempts: Iterable[Checkpointed]) -> None:
        """Save every dirty attempt now. What cannot be saved stays dirty, for the next round."""
        dirty = [attempt for attempt in attempts if attempt.uncheckpointed > 0]
        self._locked.clear()
        self._apart = {attempt: when for attempt, when in self._apart.items() if attempt in dirty}
        await self._save([attempt for attempt in dirty if attempt not in self._apart])
        for attempt in [attempt for attempt, when in self._apart.items() if _clock() >= when]:
            del self._apart[attempt]
            await self._save([attempt])

    async def _save(self, attempts: Sequence[Checkpointed]) -> None:
        try:
            await by_halves(attempts, self._save_all, self._refused)
        except StoreUnavailable as error:
            log_line.warning("checkpoint failed", answers=len(attempts), error=repr(error))

    async def _save_all(self, attempts: Sequence[Checkpointed]) -> None:
        try:
            items = [attempt.checkpoint() for attempt in attempts]
            locked = await self._store.checkpoint(items, wait=False)
        except Exception:
            for attempt in attempts:
                attempt.not_saved()
            raise
        for attempt, item in zip(attempts, items, strict=True):
            if item.message_id in locked:
                attempt.not_saved()
                self._locked.add(attempt)
            else:
                attempt.saved(item)

    def _refused(self, attempt: Checkpointed, error: Exception) -> None:
        self._apart[attempt] = _clock() + REFUSED_PAUSE_SECONDS
        CHECKPOINTS_REFUSED.inc()
        log_line.error(
            "an answer cannot be checkpointed", message_id=attempt.message_id, error=repr(error)
        )


def _clock() -> float:
    return asyncio.get_running_loop().time()
