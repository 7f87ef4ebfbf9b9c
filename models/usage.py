"""What users' answers have used and cost: sums by user, day and model.

Guarantees: an answer counts once, in the transaction that ends it, on the day of its end (UTC),
under the model that answered last. The sums outlive the answer: who deletes a conversation has paid
for it. Costs are whole nanos (`protocol.prices`), so sums are exact. Rejected: sums over messages,
which cost more with every answer, and forget what is deleted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Integer, cast, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from tokenwire.models.database import Database, now_ms
from tokenwire.models.dialects import insert
from tokenwire.models.errors import GivenUp, StatementFailed
from tokenwire.models.quotas import uncounted_on
from tokenwire.models.tables import Message, UsageDay
from tokenwire.protocol.events import TOKEN_FIELDS
from tokenwire.protocol.prices import NANOS

MS_PER_DAY = 86_400_000
_EPOCH = date(1970, 1, 1)
SUMS = ("answers", "estimated", "unpriced", *TOKEN_FIELDS, "cost")
"""The columns that add up."""


@dataclass(frozen=True, slots=True)
class Period:
    """Whole days (UTC), both included."""

    first: date
    last: date

    @classmethod
    def until_today(cls, days: int) -> "Period":
        """The last so many days."""
        today = datetime.now(UTC).date()
        return cls(today - timedelta(days=days - 1), today)


async def count_usage(
    session: AsyncSession, message_id: str, usage: Mapping[str, Any] | None
) -> None:
    """Add the usage of an answer that this transaction ends to its user's sums. Without a user
    or usage there is nothing to add. Call it behind `quotas.settle`, which limits the wait for
    a lock: an answer ends although it cannot be counted: the log has what is missing.
    """
    if usage is None:
        return
    values = {name: usage.get(name) or 0 for name in TOKEN_FIELDS}
    values["cost"] = round((usage.get("cost") or 0) * NANOS)
    values |= {"answers": 1, "estimated": int(bool(usage.get("estimated")))}
    values["unpriced"] = int(usage.get("cost") is None)
    key = [
        col(Message.charged_to),
        cast(now_ms() // MS_PER_DAY, Integer),
        func.coalesce(col(Message.model), ""),
    ]
    row = select(*key, *(literal(values[name]) for name in SUMS)).where(
        col(Message.id) == message_id, col(Message.charged_to).is_not(None)
    )
    added = insert(session, UsageDay).from_select(["user_id", "day", "model", *SUMS], row)
    sums = {name: getattr(UsageDay, name) + added.excluded[name] for name in SUMS}
    change = added.on_conflict_do_update(index_elements=["user_id", "day", "model"], set_=sums)
    words = "the usage of an answer is not counted"
    facts = {"message_id": message_id, "usage": usage}
    async with uncounted_on(session, words, StatementFailed, GivenUp, **facts):
        await session.execute(change)


class Usages(Database):
    """The queries of what was used."""

    async def usage_of(self, user_id: str, period: Period) -> Sequence[UsageDay]:
        """The user's sums by day and model, in this order."""
        query = (
            select(UsageDay)
            .where(col(UsageDay.user_id) == user_id, *_within(period))
            .order_by(col(UsageDay.day), col(UsageDay.model))
        )
        async with self.reading() as session:
            return list(await session.scalars(query))


def day_of(number: int) -> date:
    """The date of a row's `day`."""
    return _EPOCH + timedelta(days=number)


def _within(period: Period) -> list[Any]:
    first, last = ((day - _EPOCH).days for day in (period.first, period.last))
    return [col(UsageDay.day) >= first, col(UsageDay.day) <= last]
