"""Takes waiting posts into a running answer, between two rounds of calls.

Guarantees: each message comes with exactly one step of the answer. The rows are changed first
(`models/steering.py`). A message that no step names yet comes with the next one, so what a crash
has left between the two is not lost.
"""

from collections.abc import Sequence

import structlog

from tokenwire.models.errors import StatementFailed, StoreUnavailable
from tokenwire.streams.log import ports
from tokenwire.worker import closing, context
from tokenwire.worker.attempt.work import AttemptWork
from tokenwire.worker.outages import outlast

log_line = structlog.get_logger(__name__)


class TakingIn:
    """What one attempt takes in."""

    def __init__(self, work: AttemptWork) -> None:
        self._work = work

    async def take_in(self) -> Sequence[str]:
        """The ids of the messages that come with the next step, in order.

        Raises StatementFailed.
        """
        work, store = self._work, self._work.services.store
        row, attempt = work.row, work.draft.attempt
        if work.billing.forbids_another(free=False):
            return ()  # no step follows
        taken = await outlast(row.id, lambda: store.take_in(row.conversation_id, row.id, attempt))
        if taken is None:
            work.writer.disown()
            return ()
        for message_id in taken.ended:
            await self._announce_end(message_id)
        there = context.brought_in(work.draft.taken.parts)
        return [message.id for message in taken.messages if message.id not in there]

    async def _announce_end(self, message_id: str) -> None:
        """Announce that a placeholder has ended. If that fails, the sweeper does it."""
        services = self._work.services
        try:
            row = await services.store.message(message_id)
            if row is not None:
                await closing.announce_end(services.store, services.log, row)
        except (ports.LogError, StoreUnavailable, StatementFailed) as error:
            log_line.warning(
                "the end of a placeholder is left to the sweeper",
                message_id=message_id,
                error=repr(error),
            )
