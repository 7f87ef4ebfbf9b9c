"""Queries of provider runs: answers that go on at their provider, under a name of its own, until somebody has proved that they ended.

A run is wanted while its answer is unfinished and goes on from it (`Message.run_id`), or while the attempt that reads it streams. Every
other run is to be ended. That follows from the rows alone: no way in which an answer can end, be taken over or be deleted has to mark it,
so none can forget to.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, not_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from tokenwire.models.answers import Checkpoint, checkpoint_values
from tokenwire.models.database import Database, now_ms
from tokenwire.models.dialects import insert
from tokenwire.models.saving import save_parts
from tokenwire.models.tables import Message, ProviderRun, is_unfinished


@dataclass(frozen=True, slots=True)
class RunToEnd:
    """A run that nobody wants. `model`: the catalogue name that it was asked from; `tries`: calls that were begun to end it."""

    message_id: str
    run_id: str
    model: str
    tries: int


class Runs(Database):
    """What a worker tells of runs at providers, and what it has to do about them."""

    async def begin_run(self, run_id: str, model: str, checkpoint: Checkpoint) -> bool:
        """Save the name of a run, begun or attached to, with the text that it goes on from. False: the answer is somebody else's, or over.

        The run is noted all the same: who began it too late has begun it, and it is to be ended. `checkpoint` names it too, if there is a
        place yet to attach to.
        """
        mine = (
            col(Message.id) == checkpoint.message_id,
            col(Message.attempt) == checkpoint.attempt,
            is_unfinished(Message),
        )
        # A checkpoint that was taken after this one names the run, too: the row keeps the newer text.
        change = (
            update(Message)
            .where(*mine, col(Message.saves) <= checkpoint.saves)
            .values(**checkpoint_values(checkpoint), updated_at=now_ms())
        )
        async with self.writing() as session:
            await session.execute(
                _run_upsert(session, run_id, model, checkpoint.message_id, checkpoint.attempt)
            )
            await session.execute(change.execution_options(synchronize_session=False))
            if checkpoint.changes:
                await save_parts(session, [checkpoint])
            return (await session.scalars(select(col(Message.id)).where(*mine))).first() is not None

    async def note_run(self, run_id: str, model: str, message_id: str, attempt: int) -> None:
        """Note a run that an attempt leaves behind. Its row may be gone: whoever ended it came before the request that began it."""
        async with self.writing() as session:
            await session.execute(_run_upsert(session, run_id, model, message_id, attempt))

    async def run_ended(self, message_id: str, run_id: str) -> None:
        """The run has ended: its provider said so."""
        async with self.writing() as session:
            await session.execute(
                delete(ProviderRun).where(
                    col(ProviderRun.message_id) == message_id, col(ProviderRun.run_id) == run_id
                )
            )

    async def runs_to_end(self, limit: int, longest_wait_ms: int) -> list[RunToEnd]:
        """Runs that nobody wants and that may be tried now, at most `limit`.

        None is given a later time than `longest_wait_ms` ahead: where a row says so, the clock was set back since.
        """
        async with self.reading() as session:
            return [
                RunToEnd(*row) for row in await session.execute(outstanding(limit, longest_wait_ms))
            ]

    async def try_to_end(self, run: RunToEnd, again_ms: int | None) -> bool:
        """Count a try before it is made; the next one is due in `again_ms` (None: never). False: somebody else has begun one."""
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
