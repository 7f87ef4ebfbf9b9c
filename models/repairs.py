"""The act of an attempt on an answer whose document breaks its schema.

Guarantees: an answer is repaired at most once. `misfit` is stored with the text that it is about,
before the model is asked again, so whoever continues after a crash asks the same, and not for a
second repair.
"""

from typing import Any

from sqlalchemy import update
from sqlmodel import col

from tokenwire.models.answers import Checkpoint, checkpoint_values
from tokenwire.models.call_rows import lock_held
from tokenwire.models.database import Database, now_ms
from tokenwire.models.saving import save_parts
from tokenwire.models.tables import Message


class Repairs(Database):
    """A worker's write of misfits."""

    async def begin_repair(self, checkpoint: Checkpoint, misfit: dict[str, Any]) -> bool:
        """Save the misfit and the answer as it is. False: the answer belongs to another attempt, or
        has ended. The same may be repeated.
        """
        async with self.writing() as session:
            row = await lock_held(session, checkpoint.message_id, checkpoint.attempt)
            if row is None:
                return False
            change = update(Message).where(col(Message.id) == checkpoint.message_id)
            change = change.values(misfit=misfit, updated_at=now_ms())
            if row.saves <= checkpoint.saves:  # a later one may have come first: its text stays
                change = change.values(**checkpoint_values(checkpoint))
            await session.execute(change.execution_options(synchronize_session=False))
            if checkpoint.changes:
                await save_parts(session, [checkpoint])
            return True
