"""Ends runs that continue at their providers although nobody needs them any more.

Users do not pay for what they have stopped or deleted. SQL knows these runs (`models.runs`),
however an answer ended, and even if the worker that began the run is dead. A round reads the due
runs and ends them in tasks of their own, so a provider that does not respond delays nothing else. A
try is counted before it is made. After the last try the row stays, and operators are notified.

Guarantees: each run whose name is known, and that nobody needs, is ended, or operators learn of it.
Calling twice does no harm.

Rejected: ending a run only where its answer ends (a dead worker or an outage would leave it
running, and billed).
"""

import asyncio
import functools
from collections.abc import Callable

import structlog

from tokenwire.config.background import failed
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.runs import RunToEnd
from tokenwire.models.store import Store
from tokenwire.providers.base import Provider
from tokenwire.worker.metrics import RUNS_ENDED
from tokenwire.worker.operators import OperatorHook, facts_of, log_only

log_line = structlog.get_logger(__name__)
MAX_END_TRIES = 10
LONGEST_PAUSE_SECONDS = 300.0
LONGEST_PAUSE_MS = int(LONGEST_PAUSE_SECONDS * 1000)
AT_A_TIME = 16
"""The most calls under way. If a provider is away, each call waits for its timeout."""


class RunEnder:
    """Ends runs for one worker process.

    `open_model` gives the provider of a catalogue entry, or raises ProviderError.
    """

    def __init__(
        self,
        store: Store,
        open_model: Callable[[str], Provider],
        notify_operators: OperatorHook = log_only,
    ) -> None:
        self._store = store
        self._open_model = open_model
        self._notify_operators = notify_operators
        self._under_way: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def carry_out(self) -> None:
        """One round: start to end the runs that are due. Raises StoreUnavailable."""
        room = AT_A_TIME - len(self._under_way)
        if room <= 0:
            return
        for run in await self._store.runs_to_end(room, LONGEST_PAUSE_MS):
            key = run.message_id, run.run_id
            if key not in self._under_way:
                self._under_way[key] = task = asyncio.create_task(self._end(run))
                task.add_done_callback(functools.partial(self._done, key))

    async def settled(self) -> None:
        """Wait for the calls under way."""
        while self._under_way:
            await asyncio.wait(self._under_way.values())

    async def aclose(self) -> None:
        """Cancel the calls under way. Another round, here or elsewhere, tries again."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, key: tuple[str, str], task: "asyncio.Task[None]") -> None:
        del self._under_way[key]
        if (
            not task.cancelled()
            and (error := task.exception()) is not None
            and not isinstance(error, StoreUnavailable)
        ):
            failed("endings", error)

    async def _end(self, run: RunToEnd) -> None:
        last = run.tries + 1 >= MAX_END_TRIES
        if not await self._store.try_to_end(
            run, None if last else int(pause_seconds(run.tries) * 1000)
        ):
            return
        try:
            await self._open_model(run.model).end(run.run_id)
        except Exception as error:  # noqa: BLE001 -- an adapter's, too: another try is due
            self._not_ended(run, error, last=last)
        else:
            await self._store.run_ended(run.message_id, run.run_id)
            RUNS_ENDED.labels("ended").inc()
            log_line.info(
                "run ended at its provider",
                message_id=run.message_id,
                model=run.model,
                tries=run.tries + 1,
            )

    def _not_ended(self, run: RunToEnd, error: Exception, *, last: bool) -> None:
        log_line.warning(
            "run not ended at its provider",
            message_id=run.message_id,
            model=run.model,
            tries=run.tries + 1,
            error=repr(error),
        )
        RUNS_ENDED.labels("given_up" if last else "failed").inc()
        if last:
            facts = facts_of(
                error, "run_not_ended", run.message_id, model=run.model, run_id=run.run_id
            )
            self._notify_operators(error, facts)


def pause_seconds(tries: int) -> float:
    """The pause after a try that follows so many others: doubling from 2 s."""
    return min(LONGEST_PAUSE_SECONDS, 2.0 * 2.0**tries)
