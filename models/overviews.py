"""Queries of the feed: a user's conversations as a list, and the users whose lists show a
conversation.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, select
from sqlmodel import col

from tokenwire.models.database import Database
from tokenwire.models.tables import Conversation, Message, Participant, is_unfinished


@dataclass(frozen=True, slots=True)
class Overview:
    """A conversation in a list. `answer_id`, `answer_status`: its newest answer, or None;
    `running`: any answer is unfinished.
    """

    conversation: Conversation
    answer_id: str | None
    answer_status: str | None
    running: bool


class Overviews(Database):
    """The queries of the feed."""

    async def overviews(self, user_id: str, limit: int) -> list[Overview]:
        """The user's conversations outside the archive, newest change first."""
        query = (
            select(
                Conversation, _newest_answer(Message.id), _newest_answer(Message.status), _running()
            )
            .join(Participant, col(Participant.conversation_id) == col(Conversation.id))
            .where(
                col(Participant.user_id) == user_id,
                col(Participant.archived_at).is_(None),
                col(Conversation.listed),
            )
            .order_by(col(Conversation.updated_at).desc(), col(Conversation.id).desc())
            .limit(limit)
        )
        async with self.reading() as session:
            return [Overview(*row) for row in await session.execute(query)]

    async def archived_among(
        self, user_id: str, conversation_ids: Collection[str]
    ) -> dict[str, bool]:
        """Those of these conversations that the user may see: whether they are archived."""
        query = select(
            col(Participant.conversation_id), col(Participant.archived_at).is_not(None)
        ).where(
            col(Participant.user_id) == user_id,
            col(Participant.conversation_id).in_(conversation_ids),
        )
        async with self.reading() as session:
            return {name: bool(archived) for name, archived in await session.execute(query)}

    async def participants_among(self, conversation_ids: Collection[str]) -> set[str]:
        """User ids of all participants of any of the conversations."""
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
