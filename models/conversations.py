"""Queries of the web side: conversations, who may see them, posts and their idempotency.

A user who is no participant gets NotFound, as if the row did not exist. A post writes the user's
row, the placeholder of the answer and its idempotency key in one transaction; the caller announces
and enqueues them afterwards.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Literal

from sqlalchemy import select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer
from sqlmodel import col
from uuid_utils import uuid7

from tokenwire.models.call_rows import continue_answer, lock_answer
from tokenwire.models.conversation_rows import (
    add_conversation,
    archived_by,
    count_rows,
    existing,
    lock,
    named_row,
    newest_row,
    placeholder,
    request_cancels,
    supersede,
    takes_part,
    visible,
)
from tokenwire.models.database import Database, now_ms
from tokenwire.models.decisions import withdraw
from tokenwire.models.errors import AnswerRunning, BadCursor, KeyReused, NotAuthor, NotFound
from tokenwire.models.idempotency import Idempotency, claim_key, rows_of_key
from tokenwire.models.quotas import (
    admit,
    admit_change,
    admit_conversation,
    shown_bytes,
    shown_conversation_bytes,
    size_of_conversation,
)
from tokenwire.models.steering import QUEUE, STEER, answer_to
from tokenwire.models.tables import (
    Conversation,
    Message,
    Participant,
    is_unfinished,
)
from tokenwire.models.tool_choices import NO_CHOICES, ToolChoices
from tokenwire.protocol.states import UNFINISHED

HISTORY_PAGE_BYTES = 1024 * 1024
"""Maximum text, as JSON, of a page of messages or conversations: longer ones would block a process
and fill its memory.
"""
_CHANGEABLE = ("title", "model", "instructions", "tools", "response_schema", "options")
_CURSOR = re.compile(r"([0-9]{1,16})\.([0-9a-zA-Z-]{1,36})")

Policy = Literal["queue", "reject", "cancel_previous", "steer"]
"""What a post does while an earlier answer of the conversation is unfinished."""


@dataclass(frozen=True, slots=True)
class Post:
    """A user's message and how to answer it. `model`: its catalogue name."""

    conversation_id: str
    user_id: str
    content: str
    model: str
    policy: Policy = "queue"
    idempotency: Idempotency | None = None
    client_id: str | None = None
    """The client's id of the message: a second post with it creates nothing new."""
    edits: bool = False
    """The message replaces the one with this `client_id` and all that followed it."""
    response_schema: dict[str, Any] | None = None
    inherits_schema: bool = True
    """Without a schema of its own, its answer has that of the conversation."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the answer (see `tables.Message`), before those of the conversation."""
    tools: ToolChoices = NO_CHOICES
    steers: bool = True
    """False: it never reaches a running answer, because its client follows its own one."""


@dataclass(frozen=True, slots=True)
class Posted:
    """The two rows of a post. `superseded`: ids of the unfinished answers to cancel. `resumed`: the
    id of an answer that waited for a decision, and continues without it.
    """

    user_message: Message
    assistant_message: Message
    superseded: list[str] = field(default_factory=list)
    resumed: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A conversation and a page of its rows, in order. `next`: the ordinal of the next older page,
    None at the beginning. `archived`: by the user who asks.
    """

    conversation: Conversation
    messages: list[Message]
    next: int | None
    archived: bool


class Conversations(Database):
    """Queries and writes of people. `user_id` is always the caller."""

    async def create_conversation(
        self,
        user_id: str,
        *,
        title: str | None = None,
        model: str | None = None,
        instructions: str | None = None,
        tools: list[str] | None = None,
        response_schema: dict[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency: Idempotency | None = None,
    ) -> Conversation:
        """A new conversation with its owner as only participant; for a repeated key, the first one.

        Raises KeyReused, NotFound, StorageFull.
        """
        made = {"conversation_id": str(uuid7())}
        async with self.writing() as session:
            if idempotency is not None:
                earlier = await claim_key(session, user_id, idempotency, made)
                if (
                    earlier is not made
                ):  # it may be deleted; its id is not used again, since its log has a tombstone
                    return await visible(session, earlier["conversation_id"], user_id)
            row = await add_conversation(
                session,
                made["conversation_id"],
                user_id,
                title=title,
                model=model,
                instructions=instructions,
                tools=tools,
                response_schema=response_schema,
                options=options or None,
            )
            await admit_conversation(session, self.quotas, row)
            return row

    async def conversation(self, conversation_id: str, user_id: str) -> Conversation:
        """The conversation, for a participant. Raises NotFound."""
        async with self.reading() as session:
            return await visible(session, conversation_id, user_id)

    async def conversations(
        self, user_id: str, limit: int, before: str | None = None, *, archived: bool = False
    ) -> tuple[list[Conversation], str | None]:
        """The user's conversations outside or in their archive, newest change first, and the cursor
        of the next page (None: the last page).

        Fewer than `limit` if their instructions or schemas are long. Raises BadCursor.
        """
        query = (
            select(col(Conversation.id), shown_conversation_bytes)
            .join(Participant, col(Participant.conversation_id) == col(Conversation.id))
            .where(
                col(Participant.user_id) == user_id,
                col(Participant.archived_at).is_not(None)
                if archived
                else col(Participant.archived_at).is_(None),
                col(Conversation.listed),
            )
            .order_by(col(Conversation.updated_at).desc(), col(Conversation.id).desc())
            .limit(limit + 1)
        )
        if before is not None:
            query = query.where(
                tuple_(col(Conversation.updated_at), col(Conversation.id))
                < tuple_(*_parse_cursor(before))
            )
        async with self.reading() as session:
            found = (await session.execute(query)).all()
            ids = [name for name, _ in found][: fitting([size for _, size in found[:limit]])]
            rows = {
                row.id: row
                for row in await session.scalars(
                    select(Conversation).where(col(Conversation.id).in_(ids))
                )
            }
        page = [rows[name] for name in ids]
        return page, f"{page[-1].updated_at}.{page[-1].id}" if len(found) > len(page) else None

    async def snapshot(
        self, conversation_id: str, user_id: str, limit: int, before: int | None = None
    ) -> Snapshot:
        """The newest `limit` rows (before an ordinal), in order, with the conversation, in one SQL
        snapshot.

        Without superseded rows; fewer than `limit` if they are long. Raises NotFound.
        """
        shown = [
            col(Message.conversation_id) == conversation_id,
            col(Message.superseded_by).is_(None),
        ]
        if before is not None:
            shown.append(col(Message.ordinal) < before)
        sizes = select(col(Message.ordinal), shown_bytes).where(*shown)
        async with self.reading() as session:
            seen = select(Conversation, archived_by(user_id)).where(
                col(Conversation.id) == conversation_id, takes_part(user_id)
            )
            if (own := (await session.execute(seen)).first()) is None:
                raise NotFound("conversation")
            found = (
                await session.execute(sizes.order_by(col(Message.ordinal).desc()).limit(limit + 1))
            ).all()
            ordinals = [ordinal for ordinal, _ in found][
                : fitting([size for _, size in found[:limit]])
            ]
            # Kept values are for the provider: they may be long, and are never shown.
            query = select(Message).where(*shown, col(Message.ordinal).in_(ordinals))
            for kept in (Message.kept, Message.parts_kept):
                # A column, whatever SQLModel calls it.
                query = query.options(defer(col(kept), raiseload=True))  # type: ignore[arg-type]
            page = list(await session.scalars(query.order_by(col(Message.ordinal))))
        older = page[0].ordinal if len(found) > len(page) else None
        return Snapshot(own[0], page, older, archived=own[1])

    async def visible_message(self, message_id: str, user_id: str) -> Message:
        """The row, for a participant of its conversation. Raises NotFound."""
        query = (
            select(Message)
            .join(Participant, col(Participant.conversation_id) == col(Message.conversation_id))
            .where(col(Message.id) == message_id, col(Participant.user_id) == user_id)
        )
        async with self.reading() as session:
            row = (await session.scalars(query)).first()
        if row is None:
            raise NotFound("message")
        return row

    async def change_conversation(
        self, conversation_id: str, user_id: str, changes: dict[str, Any]
    ) -> Conversation:
        """Set any of title, model, instructions, tools, response_schema, options. A changed title
        raises `rev` and must be announced. Raises NotFound, StorageFull.
        """
        values: dict[str, Any] = {name: changes[name] for name in _CHANGEABLE if name in changes}
        if "title" in values:
            values["rev"] = col(Conversation.rev) + 1
        change = (
            update(Conversation)
            .where(col(Conversation.id) == conversation_id, takes_part(user_id))
            .values(**values, updated_at=now_ms())
            .returning(Conversation)
        )
        async with self.writing() as session:
            before = await size_of_conversation(session, conversation_id)
            row = existing((await session.scalars(change)).first())
            await admit_change(session, self.quotas, row, before)
            return row

    async def name_conversation(self, conversation_id: str, title: str) -> Conversation | None:
        """Give an untitled conversation a title, and raise `rev`. None: it has a title, or is
        gone.
        """
        change = (
            update(Conversation)
            .where(col(Conversation.id) == conversation_id, col(Conversation.title).is_(None))
            .values(title=title, rev=col(Conversation.rev) + 1, updated_at=now_ms())
            .returning(Conversation)
        )
        async with self.writing() as session:
            return (await session.scalars(change)).first()

    async def mark_title_announced(self, conversation_id: str, rev: int) -> None:
        """The log holds the title as of `rev`."""
        change = (
            update(Conversation)
            .where(col(Conversation.id) == conversation_id, col(Conversation.announced_rev) < rev)
            .values(announced_rev=rev)
            .execution_options(synchronize_session=False)
        )
        async with self.writing() as session:
            await session.execute(change)

    async def post(self, post: Post) -> Posted:
        """Write a user's message and the placeholder of its answer; for a repeated key or client
        id, return the first rows.

        Raises NotFound, KeyReused (also for a client id with another content), AnswerRunning
        (policy `reject`), and what `quotas.admit` raises.
        """
        made = {"user": str(uuid7()), "assistant": str(uuid7())}
        async with self.writing() as session:
            if first := await posted_before(session, post.user_id, post.idempotency, made):
                return first
            conversation = await lock(session, post.conversation_id, post.user_id)
            replaced = await _posted_under(session, post)
            if replaced is not None and not post.edits:
                return await _earlier_post(session, post, replaced)
            if replaced is not None and replaced.user_id != post.user_id:
                raise NotAuthor(replaced.id)
            superseded = (
                []
                if replaced is None
                else await supersede(session, replaced, made["user"], conversation, post.user_id)
            )
            if post.response_schema is None and post.inherits_schema:
                post = replace(post, response_schema=conversation.response_schema)
            if conversation.options:
                post = replace(post, options={**conversation.options, **post.options})
            resumed = None
            if replaced is None:
                superseded = await _apply_policy(session, post)
                resumed = await _withdraw_questions(session, post.conversation_id)
            count_rows(conversation, len(made))
            posted = await _write_rows(
                session, post, made, conversation.updated_at, superseded, replaced
            )
            if not post.steers:
                posted.assistant_message.while_running = QUEUE
            elif resumed is not None or post.policy == STEER:
                posted.assistant_message.while_running = STEER
            posted = replace(posted, resumed=resumed)
            await admit(
                session, self.quotas, post.user_id, post.conversation_id, list(made.values())
            )
            return posted

    async def mark_posted(
        self, user_message_id: str, assistant_message_id: str, rev: int, *, enqueued: bool
    ) -> None:
        """The log holds both rows as of `rev`, and the broker has the job if `enqueued`; one
        transaction.
        """
        async with self.writing() as session:
            await session.execute(
                update(Message)
                .where(
                    col(Message.id).in_([user_message_id, assistant_message_id]),
                    col(Message.announced_rev) < rev,
                )
                .values(announced_rev=rev)
                .execution_options(synchronize_session=False)
            )
            if enqueued:
                await session.execute(
                    update(Message)
                    .where(col(Message.id) == assistant_message_id)
                    .values(enqueued_at=now_ms())
                    .execution_options(synchronize_session=False)
                )


def fitting(sizes: Sequence[int]) -> int:
    """How many of the first of these fit a page: at least one, if there is any."""
    sums = list(accumulate(sizes))
    return max(bisect_right(sums, HISTORY_PAGE_BYTES), min(1, len(sums)))


def _parse_cursor(text: str) -> tuple[int, str]:
    match = _CURSOR.fullmatch(text)
    if match is None:
        raise BadCursor(text)
    return int(match[1]), match[2]


async def posted_before(
    session: AsyncSession, user_id: str, idempotency: Idempotency | None, made: dict[str, str]
) -> Posted | None:
    """What the same key has posted before. None: there is no key, or it is new and now stands for
    `made`.

    Raises KeyReused, and NotFound if the user may not see the conversation any more.
    """
    if idempotency is None:
        return None
    earlier = await claim_key(session, user_id, idempotency, made)
    if earlier is made:
        return None
    user, answer = await rows_of_key(session, earlier)
    await visible(session, answer.conversation_id, user_id)
    return Posted(user, answer)


async def _posted_under(session: AsyncSession, post: Post) -> Message | None:
    """The present row of the conversation with the post's client id."""
    if post.client_id is None:
        return None
    query = named_row(post.conversation_id, post.client_id)
    return (await session.scalars(query.where(col(Message.superseded_by).is_(None)))).first()


async def _earlier_post(session: AsyncSession, post: Post, user: Message) -> Posted:
    """An earlier post, and its present answer. Raises NotFound, KeyReused."""
    if user.content != post.content:
        raise KeyReused(post.client_id or "")
    answers = select(Message).where(
        col(Message.parent_id) == user.id, col(Message.role) == "assistant"
    )
    newest = answers.order_by(col(Message.ordinal).desc()).limit(1)
    answer = (await session.scalars(newest)).first()
    if answer is None:
        raise NotFound("message")
    return Posted(user, await answer_to(session, user, answer))


async def _apply_policy(session: AsyncSession, post: Post) -> list[str]:
    """Apply the policy to earlier unfinished answers; returns the ids of those to cancel."""
    if post.policy in ("queue", "steer"):
        return []
    running = (
        col(Message.conversation_id) == post.conversation_id,
        col(Message.status).in_(UNFINISHED),
    )
    ids = list(
        await session.scalars(
            select(col(Message.id)).where(*running).order_by(col(Message.ordinal))
        )
    )
    if ids and post.policy == "reject":
        raise AnswerRunning(ids[0])
    await request_cancels(session, ids)
    return ids


async def _withdraw_questions(session: AsyncSession, conversation_id: str) -> str | None:
    """Take the questions back that stand before the post, and return the id of their answer if it
    waited for them. A running answer notices the post before it waits.
    """
    query = (
        select(col(Message.id))
        .where(
            col(Message.conversation_id) == conversation_id,
            is_unfinished(Message),
            col(Message.rounds) > 0,
        )
        .order_by(col(Message.ordinal))
        .limit(1)
    )
    first = (await session.scalars(query)).first()
    row = None if first is None else await lock_answer(session, first)
    if row is None or row.cancel_by is not None:
        return None
    if row.status == "waiting" and await withdraw(session, row):
        return first
    await continue_answer(session, row)
    return None


async def _write_rows(
    session: AsyncSession,
    post: Post,
    made: dict[str, str],
    now: int,
    superseded: list[str],
    replaced: Message | None,
) -> Posted:
    last = await newest_row(session, post.conversation_id)
    ordinal = last.ordinal if last is not None else 0
    follows = last.id if last is not None else None
    user = Message(
        id=made["user"],
        conversation_id=post.conversation_id,
        ordinal=ordinal + 1,
        role="user",
        content=post.content,
        status="complete",
        terminal_announced=True,  # a user's row has no end to announce
        user_id=post.user_id,
        charged_to=post.user_id,
        client_id=post.client_id,
        parent_id=follows if replaced is None else replaced.parent_id,
        created_at=now,
        updated_at=now,
    )
    assistant = placeholder(user, made["assistant"], post.user_id, ordinal + 2, post.model, now)
    assistant.response_schema, assistant.options = post.response_schema, dict(post.options) or None
    assistant.tools = post.tools.stored()
    session.add_all([user, assistant])
    await session.flush()
    return Posted(user, assistant, superseded)
