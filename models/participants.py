"""Queries of participants and invitations.

Participation needs acceptance: an owner's invitation waits until the invited person accepts or
declines. The owner cannot leave; a conversation without its owner is deleted.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from uuid_utils import uuid7

from tokenwire.models.conversation_rows import archived_by, visible
from tokenwire.models.database import Database, now_ms
from tokenwire.models.dialects import insert
from tokenwire.models.errors import Conflict, NotFound, TooManyInvitations, TooManyParticipants
from tokenwire.models.tables import Conversation, Invitation, Participant, Revocation


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation as the invited person sees it."""

    conversation_id: str
    title: str | None
    invited_by: str
    created_at: int


class Participants(Database):
    """Queries and writes of participation."""

    async def participants(self, conversation_id: str) -> list[str]:
        """User ids of all participants, in order."""
        return await self._users(Participant, conversation_id)

    async def invited(self, conversation_id: str) -> list[str]:
        """User ids of all open invitations, in order."""
        return await self._users(Invitation, conversation_id)

    async def invite(
        self, conversation_id: str, by: str, user_id: str, limit: int, open_limit: int
    ) -> None:
        """Invite a user; no effect for participants and invited users.

        `limit`: participants and invitations of the conversation. `open_limit`: open invitations by
        a user, and for one, in all conversations, since they cost no storage. The caller checks the
        user's right. Raises NotFound if the conversation is gone, TooManyParticipants,
        TooManyInvitations.
        """
        try:
            async with self.writing() as session:
                # One after another, or two would take the last place.
                await session.execute(
                    select(col(Conversation.id))
                    .where(col(Conversation.id) == conversation_id)
                    .with_for_update()
                )
                if await session.get(Participant, (conversation_id, user_id)) is not None:
                    return
                row = insert(session, Invitation).values(
                    conversation_id=conversation_id,
                    user_id=user_id,
                    invited_by=by,
                    created_at=now_ms(),
                )
                await session.execute(row.on_conflict_do_nothing())
                counts = [
                    (
                        await session.execute(
                            select(func.count()).where(
                                col(table.conversation_id) == conversation_id
                            )
                        )
                    ).scalar_one()
                    for table in (Participant, Invitation)
                ]
                if sum(counts) > limit:
                    raise TooManyParticipants(conversation_id)
                for waiting in (
                    col(Invitation.invited_by) == by,
                    col(Invitation.user_id) == user_id,
                ):
                    if (
                        await session.execute(select(func.count()).where(waiting))
                    ).scalar_one() > open_limit:
                        raise TooManyInvitations(user_id)
        except Conflict as error:
            if isinstance(error, TooManyParticipants):
                raise
            raise NotFound("conversation") from error

    async def invitations(self, user_id: str, limit: int) -> list[Invited]:
        """The user's newest invitations."""
        query = (
            select(
                col(Invitation.conversation_id),
                col(Conversation.title),
                col(Invitation.invited_by),
                col(Invitation.created_at),
            )
            .join(Conversation, col(Conversation.id) == col(Invitation.conversation_id))
            .where(col(Invitation.user_id) == user_id)
            .order_by(col(Invitation.created_at).desc(), col(Invitation.conversation_id))
            .limit(limit)
        )
        async with self.reading() as session:
            return [Invited(*row) for row in await session.execute(query)]

    async def accept_invitation(self, conversation_id: str, user_id: str) -> Conversation:
        """Join the conversation; no effect for a participant. Raises NotFound without an
        invitation.
        """
        mine = (
            col(Invitation.conversation_id) == conversation_id,
            col(Invitation.user_id) == user_id,
        )
        async with self.writing() as session:
            invited = (
                await session.scalars(
                    delete(Invitation).where(*mine).returning(col(Invitation.user_id))
                )
            ).first()
            if invited is not None:
                await session.execute(_delete_of(Revocation, conversation_id, user_id))
                row = insert(session, Participant).values(
                    conversation_id=conversation_id, user_id=user_id
                )
                await session.execute(row.on_conflict_do_nothing())
            return await visible(session, conversation_id, user_id)

    async def decline_invitation(self, conversation_id: str, user_id: str) -> bool:
        """Delete the invitation; returns whether there was one."""
        mine = (
            col(Invitation.conversation_id) == conversation_id,
            col(Invitation.user_id) == user_id,
        )
        async with self.writing() as session:
            return (
                await session.scalars(
                    delete(Invitation).where(*mine).returning(col(Invitation.user_id))
                )
            ).first() is not None

    async def archive(self, conversation_id: str, user_id: str, *, archived: bool) -> None:
        """Put the conversation into this participant's archive, or take it out. Raises NotFound."""
        change = (
            update(Participant)
            .where(
                col(Participant.conversation_id) == conversation_id,
                col(Participant.user_id) == user_id,
            )
            .values(archived_at=now_ms() if archived else None)
            .returning(col(Participant.user_id))
        )
        async with self.writing() as session:
            if (await session.scalars(change)).first() is None:
                raise NotFound("conversation")

    async def is_archived(self, conversation_id: str, user_id: str) -> bool:
        """Whether it is in this user's archive."""
        query = select(archived_by(user_id)).where(col(Conversation.id) == conversation_id)
        async with self.reading() as session:
            return bool((await session.scalars(query)).first())

    async def remove_participant(self, conversation_id: str, user_id: str) -> None:
        """End a user's participation or invitation; no effect without one. The caller checks the
        right.

        The log must learn of an ended participation: `unannounced_revocations`.
        """
        async with self.writing() as session:
            await session.execute(_delete_of(Invitation, conversation_id, user_id))
            part = (
                await session.scalars(
                    _delete_of(Participant, conversation_id, user_id).returning(
                        col(Participant.user_id)
                    )
                )
            ).first()
            if part is not None:
                await session.execute(_revocation_upsert(session, conversation_id, user_id))

    async def note_revocation(self, conversation_id: str, user_id: str, *, announced: bool) -> bool:
        """Note whether the log has the removal.

        Returns False if the user is a participant again, or the conversation was deleted.
        """
        mine = (
            col(Revocation.conversation_id) == conversation_id,
            col(Revocation.user_id) == user_id,
        )
        change = update(Revocation).where(*mine).values(announced=announced)
        change = change.returning(col(Revocation.id))
        async with self.writing() as session:
            return (
                await session.scalars(change.execution_options(synchronize_session=False))
            ).first() is not None

    async def _users(
        self, table: type[Participant] | type[Invitation], conversation_id: str
    ) -> list[str]:
        query = (
            select(col(table.user_id))
            .where(col(table.conversation_id) == conversation_id)
            .order_by(col(table.user_id))
        )
        async with self.reading() as session:
            return list(await session.scalars(query))


def _revocation_upsert(session: AsyncSession, conversation_id: str, user_id: str) -> Any:
    row = insert(session, Revocation).values(
        id=str(uuid7()),
        conversation_id=conversation_id,
        user_id=user_id,
        revoked_at=now_ms(),
        announced=False,
    )
    again = {"revoked_at": row.excluded.revoked_at, "announced": False}
    return row.on_conflict_do_update(index_elements=["conversation_id", "user_id"], set_=again)


def _delete_of(
    table: type[Participant] | type[Invitation] | type[Revocation],
    conversation_id: str,
    user_id: str,
) -> Any:
    mine = (col(table.conversation_id) == conversation_id, col(table.user_id) == user_id)
    return delete(table).where(*mine).execution_options(synchronize_session=False)
