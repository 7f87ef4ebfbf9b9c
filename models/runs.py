"""Queries of provider runs: they continue at their provider until it has proved their end.

A run is needed while its unfinished answer continues from it (`Message.run_id`), or while its
attempt streams. Every other run is to be ended. That follows from the rows alone: no end, takeover
or deletion has to mark it, so none can forget to.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from tokenwire.models.answers import Checkpoint, checkpoint_values
from tokenwire.models.database import Database, now_ms
from tokenwire.models.dialects import insert
from tokenwire.models.rows import is_held
from tokenwire.models.saving import save_parts
from tokenwire.models.tables import Message, ProviderRun, is_unfinished


@dataclass(frozen=True, slots=True)
class RunToEnd:
    """A run that nobody needs. `model`: its catalogue name; `tries`: calls so far to end it."""

    message_id: str
    run_id: str
    model: str
    tries: int


class Runs(Database):
    """A worker's queries and writes of runs at providers."""

    async def begin_run(self, run_id: str, model: str, checkpoint: Checkpoint) -> bool:
        """Save the name of a new or attached run with its text. False: the answer belongs to
        another attempt, or has ended.

        The run is noted in any case, since it must be ended. `checkpoint` also names it, once there
        is a cursor to attach to.
        """
        mine = is_held(checkpoint.message_id, checkpoint.attempt)
        # A later checkpoint also names the run: the row keeps the newer text.
        change = (
            update(Message)
            .where(mine, col(Message.saves) <= checkpoint.saves)
            .values(**checkpoint_values(checkpoint), updated_at=now_ms())
        )
        async with self.writing() as session:
            await session.execute(
                _run_upsert(session, run_id, model, checkpoint.message_id, checkpoint.attempt)
            )
            await session.execute(change.execution_options(synchronize_session=False))
            if checkpoint.changes:
                await save_parts(session, [checkpoint])
            return (await session.scalars(select(col(Message.id)).where(mine))).first() is not None

    async def note_run(self, run_id: str, model: str, message_id: str, attempt: int) -> None:
        """Note a run that an attempt leaves behind. Its row may be gone: it was ended before the
        request that began the run.
        """
        async with self.writing() as session:
            await session.execute(_run_upsert(session, run_id, model, message_id, attempt))

    async def run_ended(self, message_id: str, run_id: str) -> None:
        """The provider has reported the run's end."""
        async with self.writing() as session:
            await session.execute(
                delete(ProviderRun).where(
                    col(ProviderRun.message_id) == message_id, col(ProviderRun.run_id) == run_id
                )
            )

    async def runs_to_end(self, limit: int, longest_wait_ms: int) -> list[RunToEnd]:
        """Due runs that nobody needs, at most `limit`.

        No due time is set further ahead than `longest_wait_ms`: a later one was noted before the
        clock was set back.
        """
        async with self.reading() as session:
            return [
                RunToEnd(*row) for row in await session.execute(outstanding(limit, longest_wait_ms))
            ]

    async def try_to_end(self, run: RunToEnd, again_ms: int | None) -> bool:
        """Count a try before it is made; the next one is due in `again_ms` (None: never). False:
        another process has begun one.
        """
        change = (
            update(ProviderRun)
            .where(
                col(ProviderRun.message_id) == run.message_id,
                col(ProviderRun.run_id) == run.run_id,
                col(ProviderRun.tries) == run.tries,
            )
            .values(tries=run.tries + 1, due_at=None if again_ms is None else now_ms() + again_ms)
            .returning(col(ProviderRun.run_id))
        )
        async with self.writing() as session:
            return (await session.scalars(change)).first() is not None


def _run_upsert(
    session: AsyncSession, run_id: str, model: str, message_id: str, attempt: int
) -> Any:
    row = insert(session, ProviderRun).values(
        message_id=message_id,
        run_id=run_id,
        model=model,
        attempt=attempt,
        tries=0,
        due_at=now_ms(),
        created_at=now_ms(),
    )
    return row.on_conflict_do_update(
        index_elements=["message_id", "run_id"],
        set_={"attempt": row.excluded.attempt},
        where=col(ProviderRun.attempt) < row.excluded.attempt,
    )


def outstanding(limit: int, longest_wait_ms: int) -> Any:
    """The query of `runs_to_end`."""
    wanted = or_(
        col(Message.run_id) == col(ProviderRun.run_id),
        and_(col(Message.attempt) == col(ProviderRun.attempt), col(Message.status) == "streaming"),
    )
    waits = col(ProviderRun.due_at).between(now_ms() + 1, now_ms() + longest_wait_ms)
    holder = select(col(Message.id)).where(
        col(Message.id) == col(ProviderRun.message_id), is_unfinished(Message), wanted
    )
    return (
        select(
            col(ProviderRun.message_id),
            col(ProviderRun.run_id),
            col(ProviderRun.model),
            col(ProviderRun.tries),
        )
        .where(col(ProviderRun.due_at).is_not(None), not_(waits), ~holder.exists())
        .order_by(col(ProviderRun.due_at))
        .limit(limit)
    )
