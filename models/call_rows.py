"""The rows of calls within one transaction: the lock that all acts take first, what continues a
waiting answer, and what the end of an answer does to its calls.

The message's row is the one lock of an answer's calls, so acts follow one another, and each finds
what the act before it left.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, case, not_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from tokenwire.models.database import now_ms
from tokenwire.models.tables import CallRow, Message
from tokenwire.protocol.states import CLOSED_BY_END, UNFINISHED

_LOCKED = (
    *(Message.id, Message.status, Message.attempt, Message.cancel_by, Message.superseded_by),
    *(Message.proven_parts, Message.calls_rev, Message.rounds, Message.deaths, Message.saves),
)


async def lock_answer(session: AsyncSession, message_id: str) -> Any:
    """Some columns of the answer's row, which is locked until the transaction ends; None if it is
    gone.
    """
    columns = [col(column) for column in _LOCKED]
    query = select(*columns).where(col(Message.id) == message_id)
    return (await session.execute(query.with_for_update(key_share=True))).first()


async def lock_held(session: AsyncSession, message_id: str, attempt: int) -> Any:
    """The same if this attempt has the answer, else None (`models.rows.is_held`)."""
    row = await lock_answer(session, message_id)
    is_held = row is not None and row.attempt == attempt and row.status in UNFINISHED
    return row if is_held else None


async def clock(session: AsyncSession) -> int:
    """The database's clock now. In a locking query it might be older than the lock."""
    return (await session.execute(select(now_ms()))).scalar_one()


async def calls_in(session: AsyncSession, message_id: str) -> list[CallRow]:
    """All calls of the answer, in order."""
    query = select(CallRow).where(col(CallRow.message_id) == message_id)
    return list(await session.scalars(query.order_by(col(CallRow.number))))


async def change_call(session: AsyncSession, call: CallRow, changes: dict[str, Any]) -> None:
    """Set columns of a call whose answer is locked, and of the object."""
    for name, value in changes.items():
        setattr(call, name, value)
    call.updated_at = await clock(session)
    await session.flush()


async def continue_answer(session: AsyncSession, row: Any) -> bool:
    """Count a change that no attempt made. A waiting answer is queued, and due at once: True."""
    waits: bool = row.status == "waiting"
    queued: dict[str, Any] = {"status": "queued", "updated_at": now_ms()} if waits else {}
    change = update(Message).where(col(Message.id) == row.id)
    change = change.values(calls_rev=col(Message.calls_rev) + 1, **queued)
    await session.execute(change.execution_options(synchronize_session=False))
    return waits


async def close_calls(
    session: AsyncSession, message_id: str, status: str, finish_reason: str | None
) -> None:
    """Close the calls of an answer that has just ended, like its parts. What the program that asked
    runs itself stays `proposed`.
    """
    unended: list[ColumnElement[bool]] = [col(CallRow.state).in_(list(CLOSED_BY_END))]
    of_caller = and_(col(CallRow.runs_at) == "caller", col(CallRow.state) == "proposed")
    if (status, finish_reason) == ("complete", "tool_calls"):
        unended.append(not_(of_caller))
    closed = case(dict(CLOSED_BY_END), value=col(CallRow.state))
    change = update(CallRow).where(col(CallRow.message_id) == message_id, *unended)
    change = change.values(state=closed, expires_at=None, updated_at=now_ms())
    await session.execute(change.execution_options(synchronize_session=False))
