"""The routes of PROTOCOL.md, section 6: conversations, messages, subscriptions, cancel, models, the
caller.

Routes read the request, ask the store, and shape the answer; `delivery.py` brings rows to Redis,
and `identity.py` identifies the caller. A user who is no participant gets 404.
"""

import asyncio
import time
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import BaseModel

from tokenwire.models.chats import Regeneration
from tokenwire.models.conversations import Post, Posted
from tokenwire.models.idempotency import Idempotency
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Conversation
from tokenwire.models.tool_choices import NO_CHOICES, ToolChoices
from tokenwire.models.views import conversation_view, message_view
from tokenwire.protocol import tokens
from tokenwire.streams.log.ports import Page
from tokenwire.web import delivery
from tokenwire.web.api import calls, files, participants, shapes, usage
from tokenwire.web.api.participants import require_owner
from tokenwire.web.contents import policy_of, require_fit, require_schema, require_tools
from tokenwire.web.problems import BODY, MODEL, PARAMETERS, QUOTA_CODES, documented
from tokenwire.web.services import (
    ConversationId,
    CurrentUser,
    IdempotencyKeyHeader,
    JsonRoute,
    MessageId,
    WebServices,
    With,
)
from tokenwire.worker import closing

router = APIRouter(
    prefix="/api",
    route_class=JsonRoute,
    responses=documented("unauthenticated", "unknown_host", "internal", "damaged", "unavailable"),
)

Limit = Annotated[int, Query(ge=1, le=shapes.MAX_PAGE)]


def install(app: FastAPI) -> None:
    """Serve these routes, and those for participants, files, calls and usage."""
    for part in (router, participants.router, files.router, calls.router, usage.router):
        app.include_router(part)


@router.get("/me", summary="Who is calling")
async def me(user: CurrentUser) -> shapes.Me:
    """The user id under which the caller's messages are stored."""
    return shapes.Me(user_id=user)


@router.get("/models", summary="The models that can be used now")
async def models(services: With, _user: CurrentUser) -> shapes.OfferedModels:
    """A model is offered if its key is set and, for a local server, if that answers."""
    offered = [shapes.OfferedModel(name=name) for name in services.offers.names()]
    return shapes.OfferedModels(default=services.offers.default, models=offered)


@router.post(
    "/conversations",
    status_code=201,
    responses=documented(*BODY, "not_found", *MODEL, "key_reused", "storage_full"),
    summary="Begin",
)
async def create_conversation(
    services: With,
    user: CurrentUser,
    body: shapes.NewConversation | None = None,
    idempotency_key: IdempotencyKeyHeader = None,
) -> shapes.ConversationView:
    """The caller owns it and is its only participant."""
    wanted = body or shapes.NewConversation()
    if wanted.model is not None:
        services.offers.require(wanted.model)
    options = shapes.named_in(wanted.options)
    services.offers.require_taken(wanted.model or services.offers.default, options, "body.options")
    await require_schema(wanted.schema_, user)
    row = await services.store.create_conversation(
        user,
        title=wanted.title,
        model=wanted.model,
        instructions=wanted.instructions,
        tools=wanted.tools,
        response_schema=wanted.schema_,
        options=options,
        idempotency=Idempotency.of(
            idempotency_key,
            "POST /api/conversations",
            wanted.model_dump(mode="json", exclude=_silent(wanted, "tools", "schema_", "options")),
        ),
    )
    await delivery.touch_lists(services, row.id)
    return shapes.ConversationView(**conversation_view(row))


@router.get("/conversations", responses=documented("invalid"), summary="The caller's conversations")
async def list_conversations(
    services: With,
    user: CurrentUser,
    limit: Limit = 50,
    before: Annotated[str | None, Query(max_length=64)] = None,
    archived: bool = False,
) -> shapes.ConversationPage:
    """Newest change first; `before` is the `next` of the previous page. `archived`: those in the
    caller's archive, in place of the others.
    """
    rows, following = await services.store.conversations(user, limit, before, archived=archived)
    shown = [conversation_view(row, archived=archived) for row in rows]
    return shapes.ConversationPage.model_validate({"conversations": shown, "next": following})


@router.get(
    "/conversations/{conversation_id}",
    responses=documented("not_found", "invalid"),
    summary="Snapshot",
)
async def get_conversation(
    services: With,
    user: CurrentUser,
    conversation_id: ConversationId,
    limit: Limit = shapes.MAX_PAGE,
    before: Annotated[int | None, Query(ge=1, le=shapes.MAX_ORDINAL)] = None,
) -> shapes.ConversationSnapshot:
    """The newest messages in order, and the cursor to subscribe after (null while the log is
    away).
    """
    await services.store.conversation(
        conversation_id, user
    )  # a read would create a log: not for invented ids
    # The log first: rows that are read later hold at least what is before its cursor.
    page = await delivery.log_state(services, conversation_id)
    found = await services.store.snapshot(conversation_id, user, limit, before)
    await delivery.note_interest(services, found.messages)
    return shapes.ConversationSnapshot.model_validate(
        {
            "conversation": conversation_view(found.conversation, archived=found.archived),
            "messages": [message_view(row, delivery.reached(page, row)) for row in found.messages],
            "next": found.next,
            "cursor": str(page.cursor) if page else None,
        }
    )


@router.patch(
    "/conversations/{conversation_id}",
    responses=documented(*BODY, "not_found", "not_owner", *MODEL, "storage_full"),
    summary="Change title, model, instructions, tools, schema or options, or archive it",
)
async def change_conversation(
    services: With,
    user: CurrentUser,
    conversation_id: ConversationId,
    body: shapes.ConversationChange,
) -> shapes.ConversationView:
    """Missing fields stay. A new title is announced to readers. Only the owner may change
    instructions, tools, schema and options. Each participant has an archive of their own.
    """
    changes = body.model_dump(exclude_unset=True)
    if changes.keys() & {"instructions", "tools", "schema_", "options"}:
        await require_owner(services, conversation_id, user)
    if "schema_" in changes:
        await require_schema(body.schema_, user)
        changes["response_schema"] = changes.pop("schema_")
    if changes.get("model") is not None:
        services.offers.require(changes["model"])
    if "options" in changes:
        changes["options"] = await _options(services, user, conversation_id, body)
    archived = changes.pop("archived", None)
    if changes:
        row = await services.store.change_conversation(conversation_id, user, changes)
    else:
        row = await services.store.conversation(conversation_id, user)
    if "title" in changes:
        await delivery.announce_title(services, row)
    if archived is None:
        archived = await services.store.is_archived(conversation_id, user)
    else:
        await services.store.archive(conversation_id, user, archived=archived)
        await delivery.touch_lists(services, conversation_id)
    return shapes.ConversationView(**conversation_view(row, archived=archived))


@router.delete(
    "/conversations/{conversation_id}",
    status_code=204,
    response_class=Response,
    responses=documented("not_found", "not_owner", "foreign_origin"),
    summary="Delete",
)
async def delete_conversation(
    services: With, user: CurrentUser, conversation_id: ConversationId
) -> None:
    """Deletes rows and log; a running answer stops, and readers are notified. Only for its
    owner.
    """
    await require_owner(services, conversation_id, user)
    await closing.delete_conversation(services.store, services.log, conversation_id)


@router.post(
    "/conversations/{conversation_id}/messages",
    status_code=202,
    responses=documented(
        *BODY,
        *QUOTA_CODES,
        "not_found",
        "answer_running",
        "content_too_large",
        *PARAMETERS,
        "unknown_tool",
        "key_reused",
    ),
    summary="Post",
)
async def post_message(
    request: Request,
    services: With,
    user: CurrentUser,
    conversation_id: ConversationId,
    body: shapes.NewMessage,
    idempotency_key: IdempotencyKeyHeader = None,
) -> shapes.PostedMessage:
    """Accepted once both rows are stored: the answer is written in the background, and the
    subscription follows it.
    """
    require_fit(services.settings, body.content)
    conversation = await services.store.conversation(conversation_id, user)
    model = services.offers.require(body.model or conversation.model)
    options = {**(conversation.options or {}), **body.parameters}
    services.offers.require_taken(model, options, "body.options")
    await require_schema(body.schema_, user)
    tools = await _tools(services, user, conversation, model, body.tools)
    page = await delivery.log_state(services, conversation_id)
    subscription = _subscription(
        services, request, conversation_id, user
    )  # first, since it may refuse the request, which then stores nothing
    post = Post(
        conversation_id,
        user,
        body.content,
        model,
        policy_of(services.settings, body.while_running),
        Idempotency.of(
            idempotency_key,
            f"POST /api/conversations/{conversation_id}/messages",
            body.hashed(),
        ),
        options=body.parameters,
        response_schema=body.schema_,
        inherits_schema=body.inherits_schema,
        tools=tools,
    )
    posted = await services.store.post(post)
    services.metrics.posts.inc()
    await delivery.announce_post(services, posted)
    return _posted(posted, page, subscription)


@router.post(
    "/messages/{message_id}/regenerate",
    status_code=202,
    responses=documented(
        *BODY,
        *QUOTA_CODES,
        "not_found",
        "not_author",
        "answer_running",
        "conflict",
        *PARAMETERS,
        "key_reused",
    ),
    summary="Make an answer again",
)
async def regenerate(
    request: Request,
    services: With,
    user: CurrentUser,
    message_id: MessageId,
    body: shapes.AnotherAnswer | None = None,
    idempotency_key: IdempotencyKeyHeader = None,
) -> shapes.PostedMessage:
    """A new answer to the same message (`message_id`: the answer, or the user's message) replaces
    the old one and all after it.
    """
    row = await services.store.visible_message(message_id, user)
    page, conversation = await asyncio.gather(
        delivery.log_state(services, row.conversation_id),
        services.store.conversation(row.conversation_id, user),
    )
    again = body or shapes.AnotherAnswer()
    model = services.offers.require(again.model or conversation.model)
    options = None if again.options is None else shapes.named_in(again.options)
    services.offers.require_taken(model, options or {}, "body.options")
    subscription = _subscription(services, request, conversation.id, user)
    route = f"POST /api/messages/{message_id}/regenerate"
    key = Idempotency.of(idempotency_key, route, again.model_dump(exclude_none=True) or None)
    posted = await services.store.regenerate(
        Regeneration(conversation.id, user, row.id, model, idempotency=key, options=options)
    )
    await delivery.announce_post(services, posted)
    return _posted(posted, page, subscription)


async def _tools(
    services: WebServices,
    user: str,
    conversation: Conversation,
    model: str,
    asked: shapes.MessageTools | None,
) -> ToolChoices:
    if asked is None:
        return NO_CHOICES
    usable = partial(services.offers.usable_tools, model, conversation.tools, listed=True)
    found = await require_tools(services.settings, asked.choices(), {"own": "client"}, usable, user)
    services.offers.require_tools(model, conversation.tools, found, "body.tools.use")
    return found


async def _options(
    services: WebServices, user: str, conversation_id: str, body: shapes.ConversationChange
) -> dict[str, Any] | None:
    """The parameters of a conversation that its model takes."""
    options = shapes.named_in(body.options)
    model = body.model
    if "model" not in body.model_fields_set:
        model = (await services.store.conversation(conversation_id, user)).model
    services.offers.require_taken(model or services.offers.default, options, "body.options")
    return options or None


def _silent(body: BaseModel, *later: str) -> set[str]:
    """Fields that are null, and that came `later` than idempotency keys that still count."""
    return {name for name in later if getattr(body, name) is None}


def _posted(
    posted: Posted, page: Page | None, subscription: shapes.Subscription
) -> shapes.PostedMessage:
    return shapes.PostedMessage.model_validate(
        {
            "user_message": message_view(
                posted.user_message, delivery.reached(page, posted.user_message)
            ),
            "assistant_message": message_view(
                posted.assistant_message, delivery.reached(page, posted.assistant_message)
            ),
            "cursor": str(page.cursor) if page else None,
            "subscription": subscription,
        }
    )


@router.post(
    "/conversations/{conversation_id}/subscription",
    responses=documented("not_found", "foreign_origin"),
    summary="A token to follow",
)
async def subscribe(
    request: Request, services: With, user: CurrentUser, conversation_id: ConversationId
) -> shapes.Subscription:
    """Valid for one conversation and a short time; request a new one later."""
    await services.store.conversation(conversation_id, user)
    return _subscription(services, request, conversation_id, user)


@router.post(
    "/conversations/{conversation_id}/cancel",
    status_code=202,
    responses=documented("not_found", "foreign_origin"),
    summary="Stop every answer of the conversation",
)
async def cancel_conversation(
    services: With, user: CurrentUser, conversation_id: ConversationId
) -> shapes.CancelResult:
    """Durable; ended answers stay. The written text is kept."""
    await services.store.conversation(conversation_id, user)
    return shapes.CancelResult(cancelled=await services.cancels.cancel_all(conversation_id, user))


@router.post(
    "/messages/{message_id}/cancel",
    status_code=202,
    responses=documented("not_found", "foreign_origin"),
    summary="Stop an answer",
)
async def cancel_message(
    services: With, user: CurrentUser, message_id: MessageId
) -> shapes.CancelResult:
    """Durable, even before the job has started; no effect after the end. The written text is
    kept.
    """
    row = await services.store.visible_message(message_id, user)
    if not unfinished(row):
        return shapes.CancelResult(cancelled=[])
    await services.cancels.cancel(message_id, user)
    return shapes.CancelResult(cancelled=[message_id])


def _subscription(
    services: WebServices, request: Request, conversation_id: str, user: str
) -> shapes.Subscription:
    ttl = services.settings.token_ttl_seconds
    token = tokens.mint(services.token_key, conversation_id, user, ttl, time.time())
    broadcaster = services.hosts.broadcaster(
        request.scope["scheme"], request.headers.get("host", "")
    )
    return shapes.Subscription(
        url=f"{broadcaster}/conversations/{conversation_id}", token=token, expires_in=ttl
    )
