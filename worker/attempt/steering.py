"""Takes waiting posts into a running answer, between two rounds of calls.

Guarantees: each message comes with exactly one step of the answer. The step is appended first, then
the answer is saved with it, and then the placeholders end (`models/steering.py`). Whoever continues
behind a crash finds the messages in the steps that it holds.
"""

from collections.abc import Sequence

import structlog

from tokenwire.models.errors import StatementFailed, StoreUnavailable, Unstorable
from tokenwire.streams.log import ports
from tokenwire.worker import closing, context
from tokenwire.worker.attempt.work import AttemptWork
from tokenwire.worker.outages import outlast

log_line = structlog.get_logger(__name__)


class TakingIn:
    """What one attempt takes in."""

    def __init__(self, work: AttemptWork) -> None:
        self._work = work

    async def waiting(self) -> Sequence[str]:
        """The ids of the messages that come with the next step, in order.

        Raises StatementFailed.
        """
        work = self._work
        store, who = work.services.store, (work.row.id, work.draft.attempt)
        found = await outlast(work.row.id, lambda: store.steering_behind(*who))
        there = context.brought_in(work.draft.taken.parts)
        return [name for name in found if name not in there]

    async def take_in(self) -> None:
        """End the placeholders of all messages that come with steps which readers hold.

        What the database refuses is left to the end of the answer.
        """
        work = self._work
        names = context.brought_in(work.draft.answer.parts)
        if not names:
            return
        try:
            ended = await self._end_placeholders(names)
        except (StatementFailed, Unstorable) as error:
            work.draft.not_saved()
            log_line.warning(
                "placeholders of a running answer are left to its end",
                message_id=work.row.id,
                error=repr(error),
            )
            return
        for message_id in ended:
            await self._announce_end(message_id)

    async def _end_placeholders(self, names: set[str]) -> Sequence[str]:
        work, store = self._work, self._work.services.store
        who = work.row.id, work.draft.attempt
        checkpoint = work.checkpoint()
        await outlast(work.row.id, lambda: store.checkpoint([checkpoint]))
        ended = await outlast(work.row.id, lambda: store.take_in(*who, names))
        if ended is None:
            work.writer.disown()
            return ()
        work.saved(checkpoint)
        return ended

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
