"""Queries of the sweeper: all outstanding work that SQL knows. The worker decides what to do.

Each query filters due rows and is paged by key along a partial index of candidates only: a round
costs as much as is outstanding, however many rows have ended. One more query asks for all of them
whether anything is outstanding, since an idle system is queried twice a second. A time counts as
recent only if it lies in the last milliseconds given: a time in the future was noted before the
clock was set back, and is old.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import and_, func, literal, not_, or_, select, text, tuple_, update
from sqlalchemy.orm import aliased
from sqlmodel import SQLModel, col

from tokenwire.models import runs
from tokenwire.models.database import Database, lock_free, now_ms
from tokenwire.models.tables import (
    AWAITED_SQL,
    BEGUN_SQL,
    ENDED_SQL,
    RENAMED_SQL,
    TO_CANCEL_SQL,
    UNANNOUNCED_END_SQL,
    UNANNOUNCED_REV_SQL,
    UNANNOUNCED_REVOCATION_SQL,
    UNDELETED_LOG_SQL,
    UNFINISHED_SQL,
    CallRow,
    Conversation,
    DeletedConversation,
    Message,
    Revocation,
    is_unfinished,
)

AHEAD_MS = 5_000
"""How far another machine's clock may be ahead of the database's."""


@dataclass(frozen=True, slots=True)
class Due:
    """When a row is due, in milliseconds since the event that each field names. `longest_wait`: no
    retry is due later than that.
    """

    claimed: int
    waiting: int
    overdue: int
    silent: int
    unannounced: int
    longest_wait: int


@dataclass(frozen=True, slots=True)
class Outstanding:
    """An answer that needs work. `key` continues the query after it."""

    key: str
    message_id: str
    conversation_id: str
    status: str
    cancel_by: str | None = None
    due: bool = True


class Unannounced(NamedTuple):
    """A row that the log may lack. Its text is not read: an unreadable one must not fail the
    page.
    """

    id: str
    conversation_id: str
    ordinal: int


class SweepKey(NamedTuple):
    """A recently changed row, and the time of the change."""

    at: int
    id: str


class ExpiredCall(NamedTuple):
    """A call that nobody has decided about in time."""

    expires_at: int
    message_id: str
    number: int


Kind = Literal["ends", "rows", "titles", "deletions", "revocations"]
"""Kinds of announcements that a log may lose at its end."""


@dataclass(frozen=True, slots=True)
class _Lately:
    """The column with a row's last change (None: its id has the time), the literal condition of its
    index, and the values of "not announced".
    """

    table: type[SQLModel]
    when: str | None
    unannounced: dict[str, Any]
    condition: str = "true"


_LATELY: dict[Kind, _Lately] = {
    "ends": _Lately(Message, "ended_at", {"terminal_announced": False}, ENDED_SQL),
    "rows": _Lately(Message, None, {"announced_rev": 0}),
    "titles": _Lately(Conversation, "updated_at", {"announced_rev": 0}, RENAMED_SQL),
    "deletions": _Lately(DeletedConversation, "deleted_at", {"log_deleted": False}),
    "revocations": _Lately(Revocation, "revoked_at", {"announced": False}),
}
KINDS: tuple[Kind, ...] = ("revocations", "deletions", "ends", "titles", "rows")


class Sweeps(Database):
    """The sweeper's queries. `after`: the key of the previous page's last row, empty for the first
    page.
    """

    async def outstanding(self, due: Due, longest_pause: int) -> set[str]:
        """The names of those methods below, and of `Runs`, that may find a row. `longest_pause`: as
        for `Runs.runs_to_end`.
        """
        async with self._sweeping() as session:
            found = (await session.execute(outstanding(due, longest_pause))).one()
        return {name for name, is_due in found._asdict().items() if is_due}

    async def to_cancel(self, after: str, limit: int) -> list[Outstanding]:
        """Unfinished answers with a cancel."""
        return await self._answers(to_cancel(after, limit))

    async def begun(self, due: Due, after: str, limit: int) -> list[Outstanding]:
        """Answers whose attempt has been silent for a while, or whose retry is overdue."""
        return await self._answers(begun(due, after, limit))

    async def heads(self, due: Due, after: str, limit: int) -> list[Outstanding]:
        """The first unfinished answer of each conversation; `due`: it is queued, and was not
        enqueued just now.

        One index step per conversation: answers behind the first are not read.
        """
        return await self._answers(heads(due, after, limit))

    async def ended(self, due: Due, after: str, limit: int) -> list[Outstanding]:
        """Ended answers whose terminal event the log may lack."""
        return await self._answers(ended(due, after, limit))

    async def expired_calls(self, after: ExpiredCall | None, limit: int) -> list[ExpiredCall]:
        """Calls whose time for a decision is over, in order of that time."""
        async with self._sweeping() as session:
            found = await session.execute(expired_calls(after, limit))
            return [ExpiredCall(*row) for row in found]

    async def changed_lately(
        self, kind: Kind, since_ms: int, after: SweepKey | None, limit: int
    ) -> list[SweepKey]:
        """Changes since then by the database's clock, paged. `after`: the previous page's last
        row.
        """
        async with self._sweeping() as session:
            return [
                SweepKey(*row)
                for row in await session.execute(changed_lately(kind, since_ms, after, limit))
            ]

    async def announce_again(self, kind: Kind, ids: Sequence[str]) -> list[str]:
        """Mark these as not announced, and logs as not deleted, since the end of the log may be
        lost. Returns the locked ones.

        It waits for no lock: one locked row would delay all others.
        """
        table: Any = _LATELY[kind].table
        async with self.writing() as session:
            free, locked = await lock_free(session, table, ids)
            change = (
                update(table).where(col(table.id).in_(free)).values(**_LATELY[kind].unannounced)
            )
            await session.execute(change.execution_options(synchronize_session=False))
            return locked

    async def unannounced_rows(self, due: Due, after: str, limit: int) -> list[Unannounced]:
        """Rows whose newest revision the log may lack."""
        async with self._sweeping() as session:
            return [
                Unannounced(*row)
                for row in await session.execute(unannounced_rows(due, after, limit))
            ]

    async def unannounced_titles(self, due: Due, after: str, limit: int) -> list[Conversation]:
        """Conversations whose newest title the log may lack."""
        async with self._sweeping() as session:
            return list(await session.scalars(unannounced_titles(due, after, limit)))

    async def undeleted_logs(self, due: Due, after: str, limit: int) -> list[str]:
        """Ids of deleted conversations whose logs may still exist."""
        async with self._sweeping() as session:
            return list(await session.scalars(undeleted_logs(due, after, limit)))

    async def unannounced_revocations(self, due: Due, after: str, limit: int) -> list[Revocation]:
        """Removed participants whose removal the log may lack."""
        async with self._sweeping() as session:
            return list(await session.scalars(unannounced_revocations(due, after, limit)))

    async def log_deleted(self, conversation_id: str) -> None:
        """The log of a deleted conversation is deleted, too."""
        change = (
            update(DeletedConversation)
            .where(col(DeletedConversation.id) == conversation_id)
            .values(log_deleted=True)
        )
        async with self.writing() as session:
            await session.execute(change.execution_options(synchronize_session=False))

    def _sweeping(self) -> Any:
        """A reading transaction that uses indexes: PostgreSQL would assume that a third of all rows
        are unannounced, and scan the table.
        """
        return self.reading(by_index=True)

    async def _answers(self, query: Any) -> list[Outstanding]:
        async with self._sweeping() as session:
            return [Outstanding(*row) for row in await session.execute(query)]


def changed_lately(kind: Kind, since_ms: int, after: SweepKey | None, limit: int) -> Any:
    """The query of `Sweeps.changed_lately`."""
    lately = _LATELY[kind]
    table: Any = lately.table
    if lately.when is None:
        query = select(literal(0), table.id).where(
            col(table.id) > (_first_id(since_ms) if after is None else after.id)
        )
        return query.order_by(col(table.id)).limit(limit)
    when = col(getattr(table, lately.when))
    query = select(when, table.id).where(
        text(lately.condition),
        when > since_ms if after is None else tuple_(when, table.id) > tuple_(*after),
    )
    return query.order_by(when, col(table.id)).limit(limit)


def _first_id(since_ms: int) -> str:
    """A lower bound for UUIDs of version 7 created since then: they begin with the time."""
    digits = f"{since_ms:012x}"
    return f"{digits[:8]}-{digits[8:]}"


@functools.cache  # building it costs as much as running it
def outstanding(due: Due, longest_pause: int) -> Any:
    """The query of `Sweeps.outstanding`. For `heads`, any waiting answer counts, first or not."""
    waiting = (
        select(col(Message.id)).where(text(UNFINISHED_SQL), _waits_long(Message, due)).limit(1)
    )
    asked = {
        "to_cancel": to_cancel("", 1),
        "begun": begun(due, "", 1),
        "heads": waiting,
        "ended": ended(due, "", 1),
        "unannounced_rows": unannounced_rows(due, "", 1),
        "unannounced_titles": unannounced_titles(due, "", 1),
        "undeleted_logs": undeleted_logs(due, "", 1),
        "unannounced_revocations": unannounced_revocations(due, "", 1),
        "runs_to_end": runs.outstanding(1, longest_pause),
        "expired_calls": expired_calls(None, 1),
    }
    return select(*(query.exists().label(name) for name, query in asked.items()))


def to_cancel(after: str, limit: int) -> Any:
    """The query of `Sweeps.to_cancel`."""
    return _page(Message, _ANSWER, TO_CANCEL_SQL, after, limit)


def begun(due: Due, after: str, limit: int) -> Any:
    """The query of `Sweeps.begun`."""
    waits = col(Message.due_at).between(now_ms() - due.overdue + 1, now_ms() + due.longest_wait)
    silent = and_(col(Message.status) == "streaming", not_(_recent(Message.updated_at, due.silent)))
    overdue = and_(
        col(Message.status) == "retrying", or_(col(Message.due_at).is_(None), not_(waits))
    )
    return _page(Message, _ANSWER, BEGUN_SQL, after, limit).where(
        col(Message.cancel_by).is_(None), _not_just_enqueued(Message, due), or_(silent, overdue)
    )


def ended(due: Due, after: str, limit: int) -> Any:
    """The query of `Sweeps.ended`."""
    return _page(Message, _ANSWER, UNANNOUNCED_END_SQL, after, limit).where(
        not_(_recent(Message.updated_at, due.unannounced))
    )


def expired_calls(after: ExpiredCall | None, limit: int) -> Any:
    """The query of `Sweeps.expired_calls`."""
    key = (col(CallRow.expires_at), col(CallRow.message_id), col(CallRow.number))
    query = select(*key).where(text(AWAITED_SQL), key[0] <= now_ms())
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*after))
    return query.order_by(*key).limit(limit)


def unannounced_rows(due: Due, after: str, limit: int) -> Any:
    """The query of `Sweeps.unannounced_rows`."""
    return _page(
        Message,
        (Message.id, Message.conversation_id, Message.ordinal),
        UNANNOUNCED_REV_SQL,
        after,
        limit,
    ).where(not_(_recent(Message.updated_at, due.unannounced)))


def unannounced_titles(due: Due, after: str, limit: int) -> Any:
    """The query of `Sweeps.unannounced_titles`."""
    return _page(Conversation, (Conversation,), UNANNOUNCED_REV_SQL, after, limit).where(
        not_(_recent(Conversation.updated_at, due.unannounced)),
        col(Conversation.title).is_not(None),
    )


def undeleted_logs(due: Due, after: str, limit: int) -> Any:
    """The query of `Sweeps.undeleted_logs`."""
    return _page(
        DeletedConversation, (DeletedConversation.id,), UNDELETED_LOG_SQL, after, limit
    ).where(not_(_recent(DeletedConversation.deleted_at, due.unannounced)))


def unannounced_revocations(due: Due, after: str, limit: int) -> Any:
    """The query of `Sweeps.unannounced_revocations`."""
    return _page(Revocation, (Revocation,), UNANNOUNCED_REVOCATION_SQL, after, limit).where(
        not_(_recent(Revocation.revoked_at, due.unannounced))
    )


def heads(due: Due, after: str, limit: int) -> Any:
    """The query of `Sweeps.heads`: a walk from conversation to conversation (a loose index scan in
    PostgreSQL's wiki).
    """
    walk = select(_next_conversation(literal(after)).label("id"), literal(1).label("n")).cte(
        "walk", recursive=True
    )
    walk = walk.union_all(
        select(_next_conversation(walk.c.id), walk.c.n + 1).where(
            walk.c.id.is_not(None), walk.c.n < limit
        )
    )
    inner = aliased(Message, name="inner_row")
    first = (
        select(col(inner.id))
        .where(col(inner.conversation_id) == walk.c.id, is_unfinished(inner))
        .order_by(col(inner.ordinal))
        .limit(1)
        .scalar_subquery()
    )
    is_due = _waits_long(Message, due)
    return (
        select(
            walk.c.id,
            col(Message.id),
            col(Message.conversation_id),
            col(Message.status),
            col(Message.cancel_by),
            is_due,
        )
        .select_from(walk)
        .join(Message, col(Message.id) == first)
        .where(walk.c.id.is_not(None))
        .order_by(walk.c.n)
    )


def _next_conversation(after: Any) -> Any:
    """The next conversation with an unfinished answer, by id."""
    row = aliased(Message, name="walked_row")
    return (
        select(func.min(col(row.conversation_id)))
        .where(is_unfinished(row), col(row.conversation_id) > after)
        .scalar_subquery()
    )


_ANSWER = (Message.id, Message.id, Message.conversation_id, Message.status, Message.cancel_by)


def _page(table: Any, columns: Any, condition: str, after: str, limit: int) -> Any:
    """Rows of a partial index on the id, by its literal condition."""
    return (
        select(*columns)
        .where(text(condition), col(table.id) > after)
        .order_by(col(table.id))
        .limit(limit)
    )


def _recent(column: Any, milliseconds: int) -> Any:
    return col(column).between(now_ms() - milliseconds + 1, now_ms() + AHEAD_MS)


def _waits_long(row: Any, due: Due) -> Any:
    return and_(
        col(row.status) == "queued",
        col(row.cancel_by).is_(None),
        not_(_recent(row.updated_at, due.waiting)),
        _not_just_enqueued(row, due),
    )


def _not_just_enqueued(row: Any, due: Due) -> Any:
    return or_(col(row.enqueued_at).is_(None), not_(_recent(row.enqueued_at, due.claimed)))
