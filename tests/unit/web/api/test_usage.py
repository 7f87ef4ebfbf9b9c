"""GET /api/usage."""

from typing import Any

import httpx
import pytest

from tests.contracts.test_usage_days import USAGE, answer
from tests.databases import sql
from tokenwire.models.store import Store

PERIOD = {"from": "2026-03-01", "to": "2026-03-02"}


@pytest.fixture
async def used(store: Store) -> None:
    """Two answers on one day, and one of somebody else."""
    for user in ("local", "local", "other"):
        await answer(store, user, {**USAGE, "cost": 0.1})
    async with store.writing() as session:
        await session.execute(sql("UPDATE usage_days SET day = 20514"))  # 2026-03-02


@pytest.mark.usefixtures("used")
async def test_what_the_caller_used(client: httpx.AsyncClient) -> None:
    """By day and model, and in all. Nobody sees what others used."""
    sums = {
        "answers": 2,
        "estimated": 0,
        "unpriced": 0,
        "input_tokens": 20,
        "output_tokens": 10,
        "cached_tokens": 8,
        "reasoning_tokens": 6,
        "cache_write_tokens": 4,
        "cost": 0.2,
    }
    assert (await client.get("/api/usage", params=PERIOD)).json() == {
        **PERIOD,
        "days": [{**sums, "day": "2026-03-02", "model": "demo"}],
        "total": sums,
    }
    empty = (await client.get("/api/usage", params={**PERIOD, "to": "2026-03-01"})).json()
    assert (empty["days"], empty["total"]["answers"], empty["total"]["cost"]) == ([], 0, 0.0)


async def test_without_a_period_it_is_the_last_month(client: httpx.AsyncClient) -> None:
    """Today is its last day."""
    found = (await client.get("/api/usage")).json()
    answer_of_it = (await client.get("/api/usage", params={"from": found["from"]})).json()
    assert (answer_of_it["from"], answer_of_it["to"]) == (found["from"], found["to"])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"from": "2026-03-02", "to": "2026-03-01"}, "query.from"),
        ({"from": "2025-03-01", "to": "2026-03-02"}, "query.from"),
        ({"from": "0001-01-01"}, "query.from"),
        ({"from": "yesterday"}, "query.from"),
        ({"to": "2026-02-30"}, "query.to"),
    ],
)
async def test_a_period_that_is_none(
    client: httpx.AsyncClient, query: dict[str, Any], field: str
) -> None:
    """It names the field."""
    refused = await client.get("/api/usage", params=query)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert [error["field"] for error in refused.json()["errors"]] == [field]


async def test_the_first_and_the_last_day_there_are(client: httpx.AsyncClient) -> None:
    for query in ({"to": "0001-01-01"}, {"from": "9999-12-31"}, {"to": "9999-12-31"}):
        assert (await client.get("/api/usage", params=query)).status_code == 200
