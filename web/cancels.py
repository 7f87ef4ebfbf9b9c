"""Cancels: requested at once, and followed up while a worker has the answer, so that a frozen
worker delays nobody.

`worker.closing` carries a cancel out; here it is repeated. If this process stops before the end,
the sweeper takes over.
"""

import asyncio

import structlog

from tokenwire.config.background import failed
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.streams.log import ports
from tokenwire.worker import closing
from tokenwire.worker.enqueue import Jobs

log_line = structlog.get_logger(__name__)

MARGIN_SECONDS = 0.05
"""Repeated too early, the cancel would still wait for the worker."""
PAUSES_SECONDS = (
    ports.UNHEARD_SECONDS + MARGIN_SECONDS,
    ports.HEARD_SECONDS - ports.UNHEARD_SECONDS,
)
_sleep = asyncio.sleep
MAX_FOLLOWED = 1000
"""Maximum of cancels that are followed up at a time; the sweeper follows up all."""


class Cancels:
    """The cancels of this process."""

    def __init__(self, store: Store, log: ports.Log, jobs: Jobs) -> None:
        self._store, self._log, self._jobs = store, log, jobs
        self._followed: dict[str, asyncio.Task[None]] = {}

    async def cancel(self, message_id: str, by: str) -> None:
        """Stop an answer, whatever its worker does. Raises StoreUnavailable; without Redis the
        cancel is stored.
        """
        left = await closing.cancel(self._store, self._log, self._jobs, message_id, by)
        if left and message_id not in self._followed and len(self._followed) < MAX_FOLLOWED:
            following = self._followed[message_id] = asyncio.create_task(
                self._follow(message_id, by)
            )
            following.add_done_callback(lambda _task: self._followed.pop(message_id, None))

    async def cancel_all(self, conversation_id: str, by: str) -> list[str]:
        """Stop every answer of the conversation. Returns the ids of the unfinished ones."""
        unfinished = [row.id for row in await self._store.unfinished(conversation_id)]
        # The last one first, or the end of an answer would start the next one.
        for message_id in reversed(unfinished):
            await self.cancel(message_id, by)
        return unfinished

    async def aclose(self) -> None:
        """Stop all follow-ups."""
        tasks = list(self._followed.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, message_id: str, by: str) -> None:
        try:
            for pause in PAUSES_SECONDS:
                await _sleep(pause)
                if not await closing.cancel(self._store, self._log, self._jobs, message_id, by):
                    return
        except StoreUnavailable as error:
            log_line.warning("cancel left to the sweeper", message_id=message_id, error=repr(error))
        # A bug: counted and logged, and the sweeper tries again.
        except Exception as error:  # noqa: BLE001
            failed("cancel", error)
