"""Queries that delete: conversations with all that belongs to them, and what has expired.

Each transaction deletes a bounded number of rows. A conversation with very many messages is emptied page by page, the newest first, before
it goes: in one transaction it would take longer than a transaction may, every time anew. What cannot be deleted now (somebody has locked
it, say) is passed over; everything else goes, and the next round finds it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from sqlalchemy import delete, exists, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import SQLModel, col

from tokenwire.models.database import Database, now_ms
from tokenwire.models.errors import GivenUp, StoreError, StoreUnavailable
from tokenwire.models.idempotency import KEY_LIFE_MS
from tokenwire.models.quotas import give_back
from tokenwire.models.tables import (
    UNLISTED_SQL,
    Conversation,
    DeletedConversation,
    IdempotencyKey,
    Message,
    Revocation,
)

log_line = structlog.get_logger(__name__)
UNLISTED_LIFE_MS = 24 * 3600 * 1000
"""How long a conversation of a single answer is kept."""
ROWS_AT_A_TIME = 2_000
"""Rows that one transaction deletes, about: a tenth of a second."""
CONVERSATIONS_AT_A_TIME = 200


class Deletions(Database):
    """What people delete, and what nobody needs any more."""

    async def delete_conversation(self, conversation_id: str) -> bool:
        """Delete it with all its rows, whoever asks; False if it is gone already. Who may ask is checked before."""
        while True:
            async with self.writing() as session:
                if not await _shorten(session, conversation_id):
                    return bool(await _remove(session, [conversation_id]))

    async def forget_keys(self) -> None:
        """Delete the idempotency keys that have expired."""
        key = (IdempotencyKey.user_id, IdempotencyKey.route, IdempotencyKey.key)
        await self._forget_rows(
            IdempotencyKey, key, col(IdempotencyKey.created_at) < now_ms() - KEY_LIFE_MS
        )

    async def forget_deleted(self, after_ms: int) -> None:
        """Forget deleted conversations and ended parts after so long: nobody has a token any more that they forbid."""
        before = now_ms() - after_ms
        old = col(DeletedConversation.deleted_at) < before
        await self._forget_rows(
            DeletedConversation,
            (DeletedConversation.id,),
            old,
            col(DeletedConversation.log_deleted),
        )
        await self._forget_rows(
            Revocation, (Revocation.id,), col(Revocation.revoked_at) < before, col(Revocation.told)
        )

    async def _forget_rows(
        self, table: type[SQLModel], key: tuple[Any, ...], *conditions: Any
    ) -> None:
        old = (
            select(*key).where(*conditions).limit(ROWS_AT_A_TIME).with_for_update(skip_locked=True)
        )
        change = (
            delete(table).where(tuple_(*key).in_(old)).execution_options(synchronize_session=False)
        )
        gone = ROWS_AT_A_TIME
        while gone == ROWS_AT_A_TIME:
            async with self.writing() as session:
                result: Any = await session.execute(change)
                gone = result.rowcount

    async def forget_unlisted(self) -> None:
        """Delete the conversations of single answers that are old enough and that nothing younger follows. Raises StoreUnavailable."""
        passed_over = set[str]()
        while await self._forget_ends(passed_over):
            pass

    async def _forget_ends(self, passed_over: set[str]) -> bool:
        """Those that nothing follows: the ends of chains. What they followed is found by the next call. False: none was deleted."""
        after, gone = (0, ""), 0
        while True:
            async with self.reading(by_index=True) as session:
                page = [tuple(row) for row in await session.execute(_expired(after))]
            for group in _groups(
                [(name, rows) for _, name, rows in page if name not in passed_over]
            ):
                gone += await self._forget(group, passed_over)
            if len(page) < CONVERSATIONS_AT_A_TIME:
                return gone > 0
            after = page[-1][:2]

    async def _forget(self, ids: Sequence[str], passed_over: set[str]) -> int:
        """How many of them were deleted. Where all together cannot be, each is by itself."""
        try:
            return await self._forget_together(ids)
        except StoreError as error:
            if isinstance(error, StoreUnavailable) and not isinstance(error, GivenUp):
                raise
            if len(ids) > 1:
                return sum([await self._forget([name], passed_over) for name in ids])
            log_line.warning(
                "a conversation that has expired is still there",
                conversation_id=ids[0],
                error=repr(error),
            )
            passed_over.add(ids[0])
            return 0

    async def _forget_together(self, ids: Sequence[str]) -> int:
        while True:
            async with self.writing() as session:
                due = list(
                    await session.scalars(
                        select(col(Conversation.id)).where(
                            col(Conversation.id).in_(ids), *_has_expired()
                        )
                    )
                )
                if len(due) != 1 or not await _shorten(session, due[0]):
                    return len(await _remove(session, due))


def _has_expired() -> tuple[Any, ...]:
    later = aliased(Conversation)
    followed = exists().where(
        col(Message.conversation_id) == col(Conversation.id),
        col(later.follows) == col(Message.id),
        col(later.follows).is_not(None),
    )
    return text(UNLISTED_SQL), col(Conversation.updated_at) < now_ms() - UNLISTED_LIFE_MS, ~followed


def _expired(after: tuple[Any, ...]) -> Any:
    """(when it changed last, id, how many rows it has at most)."""
    place = (col(Conversation.updated_at), col(Conversation.id))
    rows = select(func.coalesce(func.max(col(Message.ordinal)), 0)).where(
        col(Message.conversation_id) == col(Conversation.id)
    )
    query = select(*place, rows.scalar_subquery()).where(
        *_has_expired(), tuple_(*place) > tuple_(*after)
    )
    return query.order_by(*place).limit(CONVERSATIONS_AT_A_TIME)


def _groups(conversations: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Ids of conversations that one transaction can delete."""
    group, total = list[str](), 0
    for name, rows in conversations:
        if group and total + rows > ROWS_AT_A_TIME:
            yield group
            group, total = [], 0
        group.append(name)
        total += rows
    if group:
        yield group


async def _shorten(session: AsyncSession, conversation_id: str) -> bool:
    """Delete the newest messages of a conversation that has more than one transaction can delete. False: it has not."""
    newest = (
        select(col(Message.id))
        .where(col(Message.conversation_id) == conversation_id)
        .order_by(col(Message.ordinal).desc())
    )
    ids = list(await session.scalars(newest.limit(ROWS_AT_A_TIME + 1)))[:-1]
    if len(ids) < ROWS_AT_A_TIME:
        return False
    await give_back(session, [conversation_id], ids)
    await session.execute(
        delete(Message).where(col(Message.id).in_(ids)).execution_options(synchronize_session=False)
    )
    return True


async def _remove(session: AsyncSession, conversation_ids: Sequence[str]) -> list[str]:
    """Delete conversations with all their rows. What is to be deleted beside them is noted: their logs."""
    await give_back(session, conversation_ids)
    change = (
        delete(Conversation)
        .where(col(Conversation.id).in_(conversation_ids))
        .returning(col(Conversation.id))
    )
    gone = list(await session.scalars(change.execution_options(synchronize_session=False)))
    now = (await session.execute(select(now_ms()))).scalar_one()
    session.add_all([DeletedConversation(id=name, deleted_at=now) for name in gone])
    return gone
