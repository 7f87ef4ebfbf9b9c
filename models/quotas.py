"""What one user may store and have waiting: counted in the transactions that write it, refused before they commit.

Every row of a message is charged to the user whose request wrote it (`charged_to`), every conversation to its owner. `storage` holds the
sum for each user, so that a quota is one row to look at and not a history to add up. A row counts its text, what its request said
beside it, and a fixed price for itself; the text of an answer counts when it has ended. What is deleted is given back by the same
formula.

The user's row in `storage` is locked first: posts of one user are counted one after the other, on PostgreSQL too.

What must happen whatever is counted (an answer ends, a conversation is deleted) counts within a savepoint: where the database cannot read
a value, or somebody keeps the user's row locked, it happens uncounted. `models.recount` puts the sum right.
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
)
from tokenwire.models.failures import ours
from tokenwire.models.tables import (
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
"""The price of a row beside its text: about what its other columns and index entries take."""
SETTLE_LOCK_SECONDS = 0.25
"""How long the end of an answer waits for its user's row. It has one of few connections, which the answers of others wait for."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """None: no limit. `history_bytes`: the longest text that an answer may have before it.

    `file_bytes`: the longest file that may be a part of an answer.
    """

    queued_per_conversation: int | None = None
    unfinished_per_user: int | None = None
    stored_bytes_per_user: int | None = None
    history_bytes: int | None = None
    file_bytes: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Quotas":
        """As they are set; 0 is no limit."""
        return cls(
            settings.max_queued_posts or None,
            settings.max_unfinished_per_user or None,
            settings.max_stored_bytes_per_user or None,
            settings.max_history_bytes,
            settings.max_file_bytes,
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
    """A text as JSON writes it."""

    inherit_cache = True


@compiles(_in_json, "sqlite")
def _sqlite_in_json(element: Any, compiler: Any, **options: Any) -> str:
    return f"json_quote({compiler.process(element.clauses, **options)})"


@compiles(_in_json, "postgresql")
def _postgresql_in_json(element: Any, compiler: Any, **options: Any) -> str:
    return f"to_json({compiler.process(element.clauses, **options)})"


def json_octets(column: Any) -> ColumnElement[int]:
    """Bytes of a text as clients are given it, in JSON: up to six times as many. 0 for NULL, or a few."""
    return octets(_in_json(column))


def _of_parts(size: ColumnElement[int]) -> ColumnElement[int]:
    """The sum over the parts that stand beside an unfinished row; nothing is asked for others."""
    total = (
        select(func.coalesce(func.sum(size), 0))
        .where(col(UnfinishedPart.message_id) == col(Message.id))
        .correlate(Message)
    )
    return case((col(Message.part_count) > 0, total.scalar_subquery()), else_=0)


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
"""What a row holds of a message: its text and all that stands beside it, but for files."""
shown_bytes: ColumnElement[int] = (
    json_octets(col(Message.content))
    + json_octets(col(Message.reasoning))
    + octets(col(Message.tool_calls))
    + octets(col(Message.parts))
    + _of_parts(json_octets(col(UnfinishedPart.text)) + octets(col(UnfinishedPart.value)))
)
"""What clients are given of it."""
_file_bytes = (
    select(func.coalesce(func.sum(func.length(col(PartFile.data))), 0))
    .where(col(PartFile.message_id) == col(Message.id))
    .correlate(Message)
    .scalar_subquery()
)
_stored_bytes = answer_bytes + case((col(Message.parts).is_not(None), _file_bytes), else_=0)
_row_bytes = (
    ROW_BYTES
    + octets(col(Message.options))
    + octets(col(Message.asked))
    + octets(col(Message.response_schema))
    + case((col(Message.status).in_(UNFINISHED), 0), else_=_stored_bytes)
)
_conversation_bytes = ROW_BYTES + octets(col(Conversation.instructions))


async def admit(
    session: AsyncSession,
    quotas: Quotas,
    user_id: str,
    conversation_id: str,
    ids: Sequence[str] | None = None,
) -> None:
    """Count rows that were just written for an answer: those with these ids, or all of a new conversation.

    Raises StorageFull, TooManyUnfinished, TooManyQueued: the transaction is to be rolled back.
    """
    new = col(Message.conversation_id) == conversation_id
    if ids is not None:
        new = and_(new, col(Message.id).in_(ids))
    await _charge(
        session, quotas, user_id, select(func.coalesce(func.sum(_row_bytes), 0)).where(new)
    )
    await _count(
        session, quotas.unfinished_per_user, TooManyUnfinished, col(Message.charged_to) == user_id
    )
    await _count(
        session,
        quotas.queued_per_conversation,
        TooManyQueued,
        col(Message.conversation_id) == conversation_id,
        col(Message.status) == "queued",
        col(Message.cancel_by).is_(None),
    )


async def admit_conversation(session: AsyncSession, quotas: Quotas, row: Conversation) -> None:
    """Count a conversation that was just written. Raises StorageFull."""
    await _charge(
        session,
        quotas,
        row.user_id,
        select(_conversation_bytes).where(col(Conversation.id) == row.id),
    )


async def admit_instructions(
    session: AsyncSession, quotas: Quotas, row: Conversation, before: str | None
) -> None:
    """Count instructions in place of those `before`. Raises StorageFull where they are longer than there is room for."""
    grown = len((row.instructions or "").encode()) - len((before or "").encode())
    await _charge(session, quotas if grown > 0 else NO_QUOTAS, row.user_id, select(literal(grown)))


async def settle(session: AsyncSession, message_id: str) -> None:
    """Count the text of an answer that has just ended. It is never refused for that, and ends uncounted if it must: it is paid for."""
    payer = select(col(Message.charged_to)).where(col(Message.id) == message_id).scalar_subquery()
    size = select(_stored_bytes).where(col(Message.id) == message_id).scalar_subquery()
    change = (
        update(Storage).where(col(Storage.user_id) == payer).values(bytes=col(Storage.bytes) + size)
    )
    async with _uncounted_on(session, StatementFailed, GivenUp):
        if session.get_bind().dialect.name != "sqlite":
            await session.execute(
                text(f"SET LOCAL lock_timeout = {round(SETTLE_LOCK_SECONDS * 1000)}")
            )
        await session.execute(change.execution_options(synchronize_session=False))


@asynccontextmanager
async def _uncounted_on(session: AsyncSession, *failures: type[Exception]) -> AsyncIterator[None]:
    """A savepoint for the counting that is done within it: these failures undo it alone, and the transaction goes on."""
    try:
        async with session.begin_nested():
            yield
    except Exception as error:
        named = ours(error)
        if not isinstance(named, failures):
            raise
        log_line.error(  # noqa: TRY400 - no traceback: what the driver says may quote the row
            "a user's stored bytes are not counted: "
            "python -m tokenwire.models.recount puts the sum right",
            error=repr(named),
        )


async def give_back(
    session: AsyncSession, conversation_ids: Sequence[str], message_ids: Sequence[str] | None = None
) -> None:
    """Give back what these conversations, which are about to be deleted, have taken; or these messages of them alone."""
    rows = (
        col(Message.conversation_id).in_(conversation_ids)
        if message_ids is None
        else col(Message.id).in_(message_ids)
    )
    # Held until they are deleted: an answer that ends meanwhile would be counted by one side only. In the order in which posts lock them.
    mine = (
        select(col(Conversation.id))
        .where(col(Conversation.id).in_(conversation_ids))
        .order_by(col(Conversation.id))
    )
    await session.execute(mine.with_for_update())
    await session.execute(
        select(col(Message.id)).where(rows).order_by(col(Message.id)).with_for_update()
    )
    async with _uncounted_on(session, StatementFailed):
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
    for user_id, size in sorted(taken.items()):  # one order for everybody, against deadlocks
        left = case((col(Storage.bytes) > size, col(Storage.bytes) - size), else_=0)
        change = update(Storage).where(col(Storage.user_id) == user_id).values(bytes=left)
        await session.execute(change.execution_options(synchronize_session=False))


async def _by_user(
    session: AsyncSession, queries: Iterable[Select[*tuple[Any, ...]]]
) -> Counter[Any]:
    """The sums that queries of a user and a sum find, all together."""
    found: Counter[Any] = Counter()
    for query in queries:
        for user_id, size in await session.execute(query.group_by(query.selected_columns[0])):
            found[user_id] += int(size)
    return found


@dataclass(frozen=True, slots=True)
class Drift:
    """A user whose sum is not what their rows are."""

    user_id: str
    counted: int
    stored: int


async def drifts(session: AsyncSession) -> list[Drift]:
    """Every user whose sum is wrong, by user id. `session` reads one snapshot, or posts that come meanwhile would pass for mistakes."""
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
    """Put a sum right by the difference that was found: what was counted since then stays counted."""
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
    error: type[TooManyQueued | TooManyUnfinished],
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
