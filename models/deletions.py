"""Queries that delete: conversations with all their rows, and expired rows.

Each transaction deletes a bounded number of rows. A conversation with very many messages is emptied
page by page, newest first, before it goes: in one transaction it would exceed the time limit, again
and again. Rows that cannot be deleted now (locked ones, for example) are skipped; the rest goes,
and the next round finds them.
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
"""Life of a conversation with a single answer, after its last change or `kept_until`."""
ROWS_AT_A_TIME = 2_000
"""Approximate number of rows per transaction: a tenth of a second."""
CONVERSATIONS_AT_A_TIME = 200


class Deletions(Database):
    """Deletions by people, and of expired rows."""

    async def delete_conversation(self, conversation_id: str) -> bool:
        """Delete it with all its rows; False if it is gone already. The caller checks the user's
        right.
        """
        while True:
            async with self.writing() as session:
                if not await _delete_newest(session, conversation_id):
                    return bool(await _delete_conversations(session, [conversation_id]))

    async def forget_keys(self) -> None:
        """Delete expired idempotency keys."""
        key = (IdempotencyKey.user_id, IdempotencyKey.route, IdempotencyKey.key)
        await self._forget_rows(
            IdempotencyKey, key, col(IdempotencyKey.created_at) < now_ms() - KEY_LIFE_MS
        )

    async def forget_deleted(self, after_ms: int) -> None:
        """Forget deleted conversations and ended participations after this time, when no token for
        them is valid any more.
        """
        before = now_ms() - after_ms
        old = col(DeletedConversation.deleted_at) < before
        await self._forget_rows(
            DeletedConversation,
            (DeletedConversation.id,),
            old,
            col(DeletedConversation.log_deleted),
        )
        await self._forget_rows(
            Revocation,
            (Revocation.id,),
            col(Revocation.revoked_at) < before,
            col(Revocation.announced),
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
        """Delete old conversations of single answers that nothing younger follows. Raises
        StoreUnavailable.
        """
        passed_over = set[str]()
        while await self._delete_chain_ends(passed_over):
            pass

    async def _delete_chain_ends(self, passed_over: set[str]) -> bool:
        """Delete the ends of chains, which nothing follows; the next call finds what they followed.
        False: none was deleted.
        """
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
        """Delete these conversations and return how many were deleted. If all together fail, try
        each alone.
        """
        try:
            return await self._delete_group(ids)
        except StoreError as error:
            if isinstance(error, StoreUnavailable) and not isinstance(error, GivenUp):
                raise
            if len(ids) > 1:
                return sum([await self._forget([name], passed_over) for name in ids])
            log_line.warning(
                "an expired conversation was not deleted",
                conversation_id=ids[0],
                error=repr(error),
            )
            passed_over.add(ids[0])
            return 0

    async def _delete_group(self, ids: Sequence[str]) -> int:
        while True:
            async with self.writing() as session:
                due = list(
                    await session.scalars(
                        select(col(Conversation.id)).where(
                            col(Conversation.id).in_(ids), *_has_expired()
                        )
                    )
                )
                if len(due) != 1 or not await _delete_newest(session, due[0]):
                    return len(await _delete_conversations(session, due))


def _has_expired() -> tuple[Any, ...]:
    later = aliased(Conversation)
    followed = exists().where(
        col(Message.conversation_id) == col(Conversation.id),
        col(later.follows) == col(Message.id),
        col(later.follows).is_not(None),
    )
    before = now_ms() - UNLISTED_LIFE_MS
    kept = func.coalesce(col(Conversation.kept_until), 0) >= before
    return text(UNLISTED_SQL), col(Conversation.updated_at) < before, ~kept, ~followed


def _expired(after: tuple[Any, ...]) -> Any:
    """Expired conversations after a place: rows of (last change, id, upper bound of its rows)."""
    place = (col(Conversation.updated_at), col(Conversation.id))
    rows = select(func.coalesce(func.max(col(Message.ordinal)), 0)).where(
        col(Message.conversation_id) == col(Conversation.id)
    )
    query = select(*place, rows.scalar_subquery()).where(
        *_has_expired(), tuple_(*place) > tuple_(*after)
    )
    return query.order_by(*place).limit(CONVERSATIONS_AT_A_TIME)


def _groups(conversations: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Ids of conversations in groups for one transaction."""
    group, total = list[str](), 0
    for name, rows in conversations:
        if group and total + rows > ROWS_AT_A_TIME:
            yield group
            group, total = [], 0
        group.append(name)
        total += rows
    if group:
        yield group


async def _delete_newest(session: AsyncSession, conversation_id: str) -> bool:
    """Delete the newest messages of a conversation with too many rows for one transaction. False:
    it has not too many.
    """
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


async def _delete_conversations(
    session: AsyncSession, conversation_ids: Sequence[str]
) -> list[str]:
    """Delete conversations with all their rows, and note that their logs are to be deleted."""
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
