"""Checkpoints: saves all attempts of a process in one statement per second, or after much text.

Guarantees: SQL gets only acknowledged text, together with its cursor. What no checkpoint has saved
yet is in the log. A row that is locked, or that the database refuses, delays no other answer.

Rejected: a statement for each batch or each answer (a commit for every few tokens); waiting for
locked rows (one of them would hold up all answers of the process).
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from tokenwire.config.clock import clock
from tokenwire.models.answers import Checkpoint
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.worker.halves import by_halves
from tokenwire.worker.metrics import CHECKPOINTS_REFUSED

log_line = structlog.get_logger(__name__)
MIN_PAUSE_SECONDS = 0.1
"""The shortest time between two checkpoints, however fast text comes."""
REFUSED_PAUSE_SECONDS = 10.0
"""How long an answer runs without checkpoints after the database has refused one."""


class Checkpointed(Protocol):
    """A running attempt, as the checkpointer needs it."""

    @property
    def message_id(self) -> str:
        """The id of the answer."""
        ...

    @property
    def uncheckpointed(self) -> int:
        """Characters that the log has acknowledged and no checkpoint has taken."""
        ...

    def checkpoint(self) -> Checkpoint:
        """The state to save now. It counts as saved, unless `not_saved` is called."""
        ...

    def saved(self, checkpoint: Checkpoint) -> None:
        """The database holds this checkpoint."""
        ...

    def not_saved(self) -> None:
        """The last checkpoint did not reach the database."""
        ...


class Checkpointer:
    """Saves what is dirty, `seconds` apart, or earlier when one answer has grown by `chars`.

    All are saved in one statement. If the database refuses it, the checkpointer finds the answer
    that causes this and sets it apart: it runs without checkpoints, except for an occasional try of
    its own, and its log keeps what SQL does not hold. A locked row is left out, and is saved by the
    first round that finds it free.
    """

    def __init__(self, store: Store, seconds: float, chars: int) -> None:
        self._store = store
        self._seconds = seconds
        self._chars = chars
        self._early = asyncio.Event()
        self._apart: dict[Checkpointed, float] = {}
        """Attempts whose checkpoint was refused, and when the next one may be tried."""
        self._locked: set[Checkpointed] = set()
        """Attempts whose rows were locked at the last try. The next round tries again."""

    def grown(self, attempt: Checkpointed) -> None:
        """An append was acknowledged. After enough new text, a checkpoint comes early."""
        if (
            attempt.uncheckpointed >= self._chars
            and attempt not in self._apart
            and attempt not in self._locked
        ):
            self._early.set()

    async def run(self, running: Callable[[], Iterable[Checkpointed]]) -> None:
        """Save checkpoints until cancelled. `running` returns the attempts of this process."""
        while True:
            started = clock()
            await self._wait()
            await self.save(running())
            await asyncio.sleep(max(0.0, MIN_PAUSE_SECONDS - (clock() - started)))

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._early.wait()
        except TimeoutError:
            pass
        self._early.clear()

    async def save(self, attempts: Iterable[Checkpointed]) -> None:
        """Save every attempt with changes now. Whatever fails is left to the next round."""
        dirty = [attempt for attempt in attempts if attempt.uncheckpointed > 0]
        self._locked.clear()
        self._apart = {attempt: when for attempt, when in self._apart.items() if attempt in dirty}
        await self._save([attempt for attempt in dirty if attempt not in self._apart])
        for attempt in [attempt for attempt, when in self._apart.items() if clock() >= when]:
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
        self._apart[attempt] = clock() + REFUSED_PAUSE_SECONDS
        CHECKPOINTS_REFUSED.inc()
        log_line.error(
            "an answer cannot be checkpointed", message_id=attempt.message_id, error=repr(error)
        )
