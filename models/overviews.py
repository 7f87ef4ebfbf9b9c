"""Queries of the feed: how a user's conversations look in a list, and whose lists a conversation is in."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, select
from sqlmodel import col

from tokenwire.models.database import Database
from tokenwire.models.tables import Conversation, Message, Participant, is_unfinished


@dataclass(frozen=True, slots=True)
class Overview:
    """A conversation in a list. `answer_id`, `answer_status`: of its newest answer, None without one; `running`: any is unfinished."""

    conversation: Conversation
    answer_id: str | None
    answer_status: str | None
    running: bool


class Overviews(Database):
    """What the feed asks."""

    async def overviews(self, user_id: str, limit: int) -> list[Overview]:
        """The conversations that the user takes part in, last changed first."""
        query = (
            select(
                Conversation, _newest_answer(Message.id), _newest_answer(Message.status), _running()
            )
            .join(Participant, col(Participant.conversation_id) == col(Conversation.id))
            .where(col(Participant.user_id) == user_id, col(Conversation.listed))
            .order_by(col(Conversation.updated_at).desc(), col(Conversation.id).desc())
            .limit(limit)
        )
        async with self.reading() as session:
            return [Overview(*row) for row in await session.execute(query)]

    async def visible_among(self, user_id: str, conversation_ids: Collection[str]) -> set[str]:
        """Those of the conversations that (still) exist for the user."""
        query = select(col(Participant.conversation_id)).where(
            col(Participant.user_id) == user_id,
            col(Participant.conversation_id).in_(conversation_ids),
        )
        async with self.reading() as session:
            return set(await session.scalars(query))

    async def participants_among(self, conversation_ids: Collection[str]) -> set[str]:
        """User ids of all who take part in any of the conversations."""
        query = (
            select(col(Participant.user_id))
            .distinct()
            .where(col(Participant.conversation_id).in_(conversation_ids))
        )
        async with self.reading() as session:
            return set(await session.scalars(query))


def _newest_answer(column: Any) -> Any:
    return (
        select(col(column))
        .where(
            col(Message.conversation_id) == col(Conversation.id), col(Message.role) == "assistant"
        )
        .order_by(col(Message.ordinal).desc())
        .limit(1)
        .correlate(Conversation)
        .scalar_subquery()
    )


def _running() -> Any:
    return (
        exists()
        .where(col(Message.conversation_id) == col(Conversation.id), is_unfinished(Message))
        .correlate(Conversation)
    )
