"""Quotas of a user: counted in the transactions that write, refused before they commit.

Every message row is charged to the user whose request wrote it (`charged_to`), every conversation
to its owner. `storage` holds each user's sum, so that a quota reads one row. A row counts its text,
other fields of its request, and a fixed price; the text of an answer counts at its end, with the
rows of its calls. A deletion gives the same amount back. An answer that waits for a decision counts
against a limit of its own: it may wait for days, and takes no worker from others.

The user's row in `storage` is locked first, so that posts of one user are counted one after another
on PostgreSQL too.

Writes that must succeed (the end of an answer, a deletion) count within a savepoint: if the
database cannot read a value, or the user's row stays locked, they succeed uncounted.
`models.recount` corrects the sum.

Rejected: summing a user's rows at each post (it costs as much as the user has stored); a sum on
Redis (it could not be committed together with the rows).
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    and_,
    case,
    func,
    literal,
    not_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import col

from tokenwire.config.settings import Settings
from tokenwire.models.dialects import insert
from tokenwire.models.errors import (
    GivenUp,
    StatementFailed,
    StorageFull,
    TooManyQueued,
    TooManyUnfinished,
    TooManyWaiting,
)
from tokenwire.models.failures import store_error
from tokenwire.models.tables import (
    CallDecision,
    CallRow,
    Conversation,
    Message,
    PartFile,
    Storage,
    UnfinishedPart,
    is_unfinished,
)
from tokenwire.protocol.states import UNFINISHED

log_line = structlog.get_logger(__name__)
ROW_BYTES = 512
"""The price of a row besides its text: about the size of its other columns and index entries."""
SETTLE_LOCK_SECONDS = 0.25
"""How long the end of an answer waits for its user's row. It holds one of few connections
meanwhile.
"""


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quotas of a user. None is unlimited. `history_bytes`: longest text before an answer.
    `file_bytes`: longest file of an answer.
    """

    queued_per_conversation: int | None = None
    unfinished_per_user: int | None = None
    stored_bytes_per_user: int | None = None
    history_bytes: int | None = None
    file_bytes: int | None = None
    waiting_per_user: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Quotas":
        """The quotas of the settings; 0 is unlimited."""
        return cls(
            settings.max_queued_posts or None,
            settings.max_unfinished_per_user or None,
            settings.max_stored_bytes_per_user or None,
            settings.max_history_bytes,
            settings.max_file_bytes,
            settings.max_waiting_per_user or None,
        )


NO_QUOTAS = Quotas()


class octets(FunctionElement[int]):  # noqa: N801 - it reads as the SQL function that it is
    """Bytes of a text or JSON value, 0 for NULL."""

    type = BigInteger()
    inherit_cache = True


@compiles(octets, "sqlite")
def _sqlite_octets(element: Any, compiler: Any, **options: Any) -> str:
    return f"coalesce(length(CAST({compiler.process(element.clauses, **options)} AS BLOB)), 0)"


@compiles(octets, "postgresql")
def _postgresql_octets(element: Any, compiler: Any, **options: Any) -> str:
    return (
        f"coalesce(octet_length(CAST({compiler.process(element.clauses, **options)} AS TEXT)), 0)"
    )


class _in_json(FunctionElement[str]):  # noqa: N801 - the same
    """A text as JSON."""

    inherit_cache = True


@compiles(_in_json, "sqlite")
def _sqlite_in_json(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_quote({compiler.process(element.clauses, **options)})"


@compiles(_in_json, "postgresql")
def _postgresql_in_json(element: Any, compiler: Any, **options: Any) -> str:
    return f"to_json({compiler.process(element.clauses, **options)})"


def json_octets(column: Any) -> ColumnElement[int]:
    """Bytes of a text in JSON, as clients get it: up to six times as many. 0 or a few for NULL."""
    return octets(_in_json(column))


def _total_of(
    table: type[UnfinishedPart | PartFile | CallRow | CallDecision], size: ColumnElement[Any]
) -> ColumnElement[int]:
    """The sum over the rows of a message in another table."""
    return (
        select(func.coalesce(func.sum(size), 0))
        .where(col(table.message_id) == col(Message.id))
        .correlate(Message)
        .scalar_subquery()
    )


def _of_parts(size: ColumnElement[int]) -> ColumnElement[int]:
    """The sum over the parts beside an unfinished row; no query for other rows."""
    return case((col(Message.part_count) > 0, _total_of(UnfinishedPart, size)), else_=0)


answer_bytes: ColumnElement[int] = (
    octets(col(Message.content))
    + octets(col(Message.reasoning))
    + octets(col(Message.tool_calls))
    + octets(col(Message.kept))
    + octets(col(Message.parts))
    + octets(col(Message.parts_kept))
    + _of_parts(
        octets(col(UnfinishedPart.text))
        + octets(col(UnfinishedPart.value))
        + octets(col(UnfinishedPart.kept))
    )
)
"""Bytes of a message's row: its text and other values, without files."""
shown_bytes: ColumnElement[int] = (
    json_octets(col(Message.content))
    + octets(col(Message.object))
    + json_octets(col(Message.reasoning))
    + octets(col(Message.tool_calls))
    + octets(col(Message.parts))
    + _of_parts(json_octets(col(UnfinishedPart.text)) + octets(col(UnfinishedPart.value)))
)
"""Bytes of a message as clients get it."""
_file_bytes = _total_of(PartFile, func.length(col(PartFile.data)))
_runs_at = (
    select(col(CallRow.runs_at))
    .where(
        col(CallRow.message_id) == col(CallDecision.message_id),
        col(CallRow.number) == col(CallDecision.number),
    )
    .correlate(CallDecision)
    .scalar_subquery()
)
# The answer that asked its caller is settled before the decision; the next answer counts that.
_decision_bytes = case(
    (_runs_at == "caller", 0),
    else_=octets(col(CallDecision.reason)) + octets(col(CallDecision.value)),
)
_call_bytes = _total_of(
    CallRow,
    octets(col(CallRow.input)) + octets(col(CallRow.ran_with)) + octets(col(CallRow.result)),
) + _total_of(CallDecision, _decision_bytes)
_stored_bytes = (
    answer_bytes
    + octets(col(Message.object))
    + case((col(Message.parts).is_not(None), _file_bytes), else_=0)
    + case((col(Message.rounds) > 0, _call_bytes), else_=0)
)
"""What the end of an answer settles. The rows of its calls repeat what its parts show, and stay."""
_row_bytes = (
    ROW_BYTES
    + octets(col(Message.options))
    + octets(col(Message.asked))
    + octets(col(Message.response_schema))
    + octets(col(Message.tools))
    + case((col(Message.status).in_(UNFINISHED), 0), else_=_stored_bytes)
)
_conversation_bytes = (
    ROW_BYTES
    + octets(col(Conversation.instructions))
    + octets(col(Conversation.tools))
    + octets(col(Conversation.response_schema))
    + octets(col(Conversation.options))
)
shown_conversation_bytes: ColumnElement[int] = (
    json_octets(col(Conversation.instructions))
    + octets(col(Conversation.tools))
    + octets(col(Conversation.response_schema))
    + octets(col(Conversation.options))
)
"""Bytes of a conversation as clients get it, without its short fields."""


async def admit(
    session: AsyncSession,
    quotas: Quotas,
    user_id: str,
    conversation_id: str,
    ids: Sequence[str] | None = None,
) -> None:
    """Count new rows of an answer: those with these ids, or all of a new conversation.

    Raises StorageFull, TooManyUnfinished, TooManyWaiting, TooManyQueued; the caller rolls back.
    """
    new = col(Message.conversation_id) == conversation_id
    if ids is not None:
        new = and_(new, col(Message.id).in_(ids))
    await _charge(
        session, quotas, user_id, select(func.coalesce(func.sum(_row_bytes), 0)).where(new)
    )
    mine, waits = col(Message.charged_to) == user_id, col(Message.status) == "waiting"
    await _count(session, quotas.unfinished_per_user, TooManyUnfinished, mine, not_(waits))
    await _count(session, quotas.waiting_per_user, TooManyWaiting, mine, waits)
    await _count(
        session,
        quotas.queued_per_conversation,
        TooManyQueued,
        col(Message.conversation_id) == conversation_id,
        col(Message.status) == "queued",
        col(Message.cancel_by).is_(None),
    )


async def admit_conversation(session: AsyncSession, quotas: Quotas, row: Conversation) -> None:
    """Count a new conversation. Raises StorageFull."""
    await _charge(
        session,
        quotas,
        row.user_id,
        select(_conversation_bytes).where(col(Conversation.id) == row.id),
    )


async def size_of_conversation(session: AsyncSession, conversation_id: str) -> int:
    """What the conversation counts, without its messages. It is locked: the size stays. 0: it is
    gone.
    """
    mine = select(_conversation_bytes).where(col(Conversation.id) == conversation_id)
    return (await session.scalars(mine.with_for_update())).first() or 0


async def admit_change(
    session: AsyncSession, quotas: Quotas, row: Conversation, before: int
) -> None:
    """Count the changed fields of a conversation, which had the size `before`. Raises StorageFull
    if it has grown and there is no room.
    """
    grown = await size_of_conversation(session, row.id) - before
    if grown:
        allowed = quotas if grown > 0 else NO_QUOTAS
        await _charge(session, allowed, row.user_id, select(literal(grown)))


async def settle(session: AsyncSession, message_id: str) -> None:
    """Count the text of an answer that has just ended. It is never refused, and may end uncounted,
    since it is paid for.
    """
    payer = select(col(Message.charged_to)).where(col(Message.id) == message_id).scalar_subquery()
    size = select(_stored_bytes).where(col(Message.id) == message_id).scalar_subquery()
    change = (
        update(Storage).where(col(Storage.user_id) == payer).values(bytes=col(Storage.bytes) + size)
    )
    await _wait_briefly(session)
    async with uncounted_on(session, _UNCOUNTED, StatementFailed, GivenUp):
        await session.execute(change.execution_options(synchronize_session=False))


async def _wait_briefly(session: AsyncSession) -> None:
    """From now on this transaction gives up a lock that others hold after SETTLE_LOCK_SECONDS."""
    if session.get_bind().dialect.name != "sqlite":
        milliseconds = round(SETTLE_LOCK_SECONDS * 1000)
        await session.execute(text(f"SET LOCAL lock_timeout = {milliseconds}"))


_UNCOUNTED = (
    "a user's stored bytes are not counted: python -m tokenwire.models.recount puts the sum right"
)


@asynccontextmanager
async def uncounted_on(
    session: AsyncSession, words: str, *failures: type[Exception], **facts: Any
) -> AsyncIterator[None]:
    """A savepoint for counting: these failures undo only the counting, and the transaction
    continues. The log says so, by these words and facts.
    """
    try:
        async with session.begin_nested():
            yield
    except Exception as error:
        named = store_error(error)
        if not isinstance(named, failures):
            raise
        log_line.error(  # noqa: TRY400 - no traceback: what the driver says may quote the row
            words,
            error=repr(named),
            **facts,
        )


async def give_back(
    session: AsyncSession, conversation_ids: Sequence[str], message_ids: Sequence[str] | None = None
) -> None:
    """Give back the bytes of these conversations before their deletion, or of these messages
    alone.
    """
    rows = (
        col(Message.conversation_id).in_(conversation_ids)
        if message_ids is None
        else col(Message.id).in_(message_ids)
    )
    # Locked until the deletion: an answer that ends meanwhile would be counted on one side only. In
    # the order of posts.
    mine = (
        select(col(Conversation.id))
        .where(col(Conversation.id).in_(conversation_ids))
        .order_by(col(Conversation.id))
    )
    await session.execute(mine.with_for_update())
    await session.execute(
        select(col(Message.id)).where(rows).order_by(col(Message.id)).with_for_update()
    )
    async with uncounted_on(session, _UNCOUNTED, StatementFailed):
        await _give_back(session, rows, conversation_ids if message_ids is None else ())


async def _give_back(
    session: AsyncSession, rows: ColumnElement[bool], conversation_ids: Sequence[str]
) -> None:
    queries = [
        select(col(Message.charged_to), func.sum(_row_bytes)).where(
            rows, col(Message.charged_to).is_not(None)
        )
    ]
    if conversation_ids:
        queries.append(
            select(col(Conversation.user_id), func.sum(_conversation_bytes)).where(
                col(Conversation.id).in_(conversation_ids)
            )
        )
    taken = await _by_user(session, queries)
    for user_id, size in sorted(taken.items()):  # one order for all, against deadlocks
        left = case((col(Storage.bytes) > size, col(Storage.bytes) - size), else_=0)
        change = update(Storage).where(col(Storage.user_id) == user_id).values(bytes=left)
        await session.execute(change.execution_options(synchronize_session=False))


async def _by_user(
    session: AsyncSession, queries: Iterable[Select[*tuple[Any, ...]]]
) -> Counter[Any]:
    """The added results of queries of (user, sum)."""
    found: Counter[Any] = Counter()
    for query in queries:
        for user_id, size in await session.execute(query.group_by(query.selected_columns[0])):
            found[user_id] += int(size)
    return found


@dataclass(frozen=True, slots=True)
class Drift:
    """A user whose sum differs from the rows."""

    user_id: str
    counted: int
    stored: int


async def drifts(session: AsyncSession) -> list[Drift]:
    """Every user with a wrong sum, by user id. `session` must see one snapshot, or concurrent posts
    would look like mistakes.
    """
    counted = {row.user_id: row.bytes for row in await session.scalars(select(Storage))}
    messages = select(col(Message.charged_to), func.sum(_row_bytes)).where(
        col(Message.charged_to).is_not(None)
    )
    stored = await _by_user(
        session, (messages, select(col(Conversation.user_id), func.sum(_conversation_bytes)))
    )
    users = sorted(counted.keys() | stored.keys())
    return [
        Drift(user, counted.get(user, 0), stored[user])
        for user in users
        if counted.get(user, 0) != stored[user]
    ]


async def amend(session: AsyncSession, drift: Drift) -> None:
    """Correct a sum by the difference: later counts stay counted."""
    await _charge(session, NO_QUOTAS, drift.user_id, select(literal(drift.stored - drift.counted)))


async def _charge(session: AsyncSession, quotas: Quotas, user_id: str, size: Select[Any]) -> None:
    row = insert(session, Storage).values(user_id=user_id, bytes=size.scalar_subquery())
    kept = row.on_conflict_do_update(
        index_elements=["user_id"], set_={"bytes": col(Storage.bytes) + row.excluded.bytes}
    )
    stored = (await session.scalars(kept.returning(col(Storage.bytes)))).one()
    if quotas.stored_bytes_per_user is not None and stored > quotas.stored_bytes_per_user:
        raise StorageFull(user_id)


async def _count(
    session: AsyncSession,
    limit: int | None,
    error: type[TooManyQueued | TooManyUnfinished | TooManyWaiting],
    *conditions: ColumnElement[bool],
) -> None:
    if limit is None:
        return
    found = (
        select(col(Message.id))
        .where(*conditions, is_unfinished(Message))
        .limit(limit + 1)
        .subquery()
    )
    if (await session.execute(select(func.count()).select_from(found))).scalar_one() > limit:
        raise error(limit)
