"""The route for what a user's answers have used and cost (PROTOCOL.md, section 6)."""

from datetime import date, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query

from tokenwire.models.tables import UsageDay
from tokenwire.models.usage import SUMS, Period, day_of
from tokenwire.protocol.prices import NANOS
from tokenwire.web.api import shapes
from tokenwire.web.problems import ApiProblem, documented
from tokenwire.web.services import CurrentUser, JsonRoute, With

MOST_DAYS = 366
DEFAULT_DAYS = 30

router = APIRouter(
    prefix="/api",
    route_class=JsonRoute,
    responses=documented("unauthenticated", "unknown_host", "internal", "unavailable"),
)


@router.get("/usage", responses=documented("invalid"), summary="What the caller's answers cost")
async def usage(
    services: With,
    user: CurrentUser,
    first: Annotated[date | None, Query(alias="from")] = None,
    last: Annotated[date | None, Query(alias="to")] = None,
) -> shapes.UsageView:
    """Sums by day (UTC, of the answers' ends) and model, and over all of them. `from` and `to` are
    included; without them, the last 30 days.
    """
    period = _period(first, last)
    rows = await services.store.usage_of(user, period)
    days = [_sums(row) | {"day": day_of(row.day), "model": row.model} for row in rows]
    total = {name: sum(getattr(row, name) for row in rows) for name in SUMS}
    total["cost"] = total["cost"] / NANOS
    return shapes.UsageView.model_validate(
        {"from": period.first, "to": period.last, "days": days, "total": total}
    )


def _period(first: date | None, last: date | None) -> Period:
    """Raises ApiProblem (422)."""
    last = last or max(Period.until_today(1).last, first or date.min)
    first = first or last - min(last - date.min, timedelta(days=DEFAULT_DAYS - 1))
    if not 0 <= (last - first).days < MOST_DAYS:
        words = f"query.from: the period has no day, or more than {MOST_DAYS}"
        raise ApiProblem("invalid", words, errors=[{"field": "query.from", "message": words}])
    return Period(first, last)


def _sums(row: UsageDay) -> dict[str, Any]:
    return {name: getattr(row, name) for name in SUMS} | {"cost": row.cost / NANOS}
