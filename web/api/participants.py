"""The routes for participants: invite, accept or decline, leave, remove (PROTOCOL.md, section 6).

A removed participant loses all open readers on every process: the log revokes their tokens and
notifies the processes.
"""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from tokenwire.models.views import conversation_view
from tokenwire.protocol.values import timestamp
from tokenwire.web import delivery
from tokenwire.web.api import shapes
from tokenwire.web.http.bodies import is_id
from tokenwire.web.problems import BODY, ApiProblem, documented
from tokenwire.web.services import ConversationId, CurrentUser, JsonRoute, WebServices, With
from tokenwire.worker.sweeper import revocations

router = APIRouter(
    prefix="/api",
    route_class=JsonRoute,
    responses=documented("unauthenticated", "unknown_host", "internal", "damaged", "unavailable"),
)


async def require_owner(services: WebServices, conversation_id: str, user: str) -> None:
    """Raises ApiProblem (403), NotFound."""
    row = await services.store.conversation(conversation_id, user)
    if row.user_id != user:
        raise ApiProblem("not_owner", "Only the owner of the conversation may do this.")


@router.get(
    "/conversations/{conversation_id}/participants",
    responses=documented("not_found"),
    summary="Who takes part",
)
async def list_participants(
    services: With, user: CurrentUser, conversation_id: ConversationId
) -> shapes.ParticipantsView:
    """All participants may see the list."""
    await services.store.conversation(conversation_id, user)
    return await _listed(services, conversation_id)


@router.post(
    "/conversations/{conversation_id}/participants",
    responses=documented(
        *BODY,
        "not_found",
        "not_owner",
        "too_many_participants",
        "too_many_invitations",
        "too_many_posts",
    ),
    summary="Invite a user",
)
async def invite(
    services: With, user: CurrentUser, conversation_id: ConversationId, body: shapes.NewParticipant
) -> shapes.ParticipantsView:
    """The user takes part after accepting. Only the owner invites; repeating it changes nothing."""
    await require_owner(services, conversation_id, user)
    settings = services.settings
    await services.store.invite(
        conversation_id, user, body.user_id, settings.max_participants, settings.max_invitations
    )
    return await _listed(services, conversation_id)


@router.delete(
    "/conversations/{conversation_id}/participants/{user_id:path}",
    status_code=204,
    response_class=Response,
    responses=documented("not_found", "not_owner", "conflict", "foreign_origin"),
    summary="Leave, or remove a user",
)
async def remove(
    services: With,
    user: CurrentUser,
    conversation_id: ConversationId,
    user_id: Annotated[str, Path()],
) -> None:
    """Participants may leave; the owner removes others and withdraws invitations, but cannot leave.
    Open streams of the user end at once, or as soon as Redis is available.
    """
    conversation = await services.store.conversation(conversation_id, user)
    if user not in (user_id, conversation.user_id):
        raise ApiProblem("not_owner", "Only the owner of the conversation may remove others.")
    if user_id == conversation.user_id:
        raise ApiProblem("conflict", "The owner cannot leave a conversation, only delete it.")
    if is_id(user_id):
        await services.store.remove_participant(conversation_id, user_id)
        await revocations.revoke_or_leave(services.store, services.log, conversation_id, user_id)
        await delivery.touch_lists(services, conversation_id)


@router.get("/invitations", summary="The caller's invitations")
async def invitations(services: With, user: CurrentUser) -> shapes.Invitations:
    """Open invitations of the caller, newest first."""
    found = await services.store.invitations(user, shapes.MAX_PAGE)
    return shapes.Invitations(
        invitations=[
            shapes.InvitationView(
                conversation_id=item.conversation_id,
                title=item.title,
                invited_by=item.invited_by,
                created_at=timestamp(item.created_at),
            )
            for item in found
        ]
    )


@router.post(
    "/invitations/{conversation_id}/accept",
    responses=documented("not_found", "foreign_origin"),
    summary="Accept: take part from now on",
)
async def accept(
    services: With, user: CurrentUser, conversation_id: ConversationId
) -> shapes.ConversationView:
    """Repeating it changes nothing. Refused without Redis: tokens of an earlier participation would
    stay revoked.
    """
    await services.log.read(conversation_id, None, 0, 0)
    row = await services.store.accept_invitation(conversation_id, user)
    await revocations.take_back(services.store, services.log, conversation_id, user)
    await delivery.touch_lists(services, conversation_id)
    return shapes.ConversationView(**conversation_view(row))


@router.delete(
    "/invitations/{conversation_id}",
    status_code=204,
    response_class=Response,
    responses=documented("not_found", "foreign_origin"),
    summary="Decline",
)
async def decline(services: With, user: CurrentUser, conversation_id: ConversationId) -> None:
    """Deletes the invitation; participants stay participants."""
    if not await services.store.decline_invitation(conversation_id, user):
        raise ApiProblem("not_found", "There is no such invitation.")


async def _listed(services: WebServices, conversation_id: str) -> shapes.ParticipantsView:
    return shapes.ParticipantsView(
        participants=await services.store.participants(conversation_id),
        invited=await services.store.invited(conversation_id),
    )
