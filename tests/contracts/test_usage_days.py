"""models/usage.py on SQLite and PostgreSQL: what was used adds up once, exactly, and stays."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from tests.contracts.plans import recorded, without_index
from tests.databases import sql
from tokenwire.models import quotas
from tokenwire.models.answers import Ending
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.usage import Period, day_of

ADA, BOB = "ada", "bob"
USAGE = {
    "input_tokens": 10,
    "output_tokens": 5,
    "cached_tokens": 4,
    "reasoning_tokens": 3,
    "cache_write_tokens": 2,
    "cost": 0.000000123,
    "estimated": False,
}
PERIOD = Period.until_today(2)
"""Midnight may pass."""


async def answer(
    store: Store, user: str, usage: dict[str, Any] | None, model: str = "demo"
) -> Ending:
    """An answer that ended: what its end was."""
    conversation = await store.create_conversation(user)
    posted = await store.post(Post(conversation.id, user, "hi", model))
    message_id = posted.assistant_message.id
    await store.begin_attempt(message_id, 1, model)
    ending = Ending(message_id, 1, "complete", "x", "", "e", 1, "stop", usage=usage)
    assert await store.finish(ending)
    return ending


async def sums(store: Store, user: str) -> dict[str, tuple[int, ...]]:
    """By model: answers, estimated, unpriced, input and output tokens, nanos."""
    found: dict[str, tuple[int, ...]] = {}
    for row in await store.usage_of(user, PERIOD):
        of_row = (row.answers, row.estimated, row.unpriced, row.input_tokens, row.output_tokens)
        before = found.get(row.model, (0,) * 6)
        found[row.model] = tuple(a + b for a, b in zip(before, (*of_row, row.cost), strict=True))
    return found


async def test_answers_add_up_by_model(store: Store) -> None:
    """Exactly; each end counts once, whoever repeats it."""
    await answer(store, ADA, USAGE)
    ending = await answer(store, ADA, {**USAGE, "estimated": True})
    await store.finish(ending)
    await answer(store, ADA, USAGE, "second")
    await answer(store, BOB, {"input_tokens": 1, "output_tokens": 2, "estimated": False})
    await answer(store, BOB, None)
    assert await sums(store, ADA) == {
        "demo": (2, 1, 0, 20, 10, 246),
        "second": (1, 0, 0, 10, 5, 123),
    }
    assert await sums(store, BOB) == {"demo": (1, 0, 1, 1, 2, 0)}
    row = (await store.usage_of(ADA, PERIOD))[0]
    assert (row.cached_tokens, row.reasoning_tokens, row.cache_write_tokens) == (8, 6, 4)
    today = datetime.now(UTC).date()
    assert today - timedelta(days=1) <= day_of(row.day) <= today


async def test_many_ends_at_once_are_all_counted(store: Store) -> None:
    await asyncio.gather(*(answer(store, ADA, USAGE) for _ in range(10)))
    assert await sums(store, ADA) == {"demo": (10, 0, 0, 100, 50, 1230)}


async def test_what_was_used_outlives_its_conversation(store: Store) -> None:
    """It was paid for."""
    ending = await answer(store, ADA, USAGE)
    row = await store.message(ending.message_id)
    assert row is not None
    await store.delete_conversation(row.conversation_id)
    assert await sums(store, ADA) == {"demo": (1, 0, 0, 10, 5, 123)}


async def test_only_days_of_the_period_count(store: Store) -> None:
    """Both ends are part of it."""
    await answer(store, ADA, USAGE)
    days = [(date(2026, 3, n) - date(1970, 1, 1)).days for n in (1, 2, 3)]
    async with store.writing() as session:
        await session.execute(sql("DELETE FROM usage_days"))
        for day in days:
            row = "INSERT INTO usage_days (user_id, day, model, cost) VALUES ('ada', :day, 'm', 5)"
            await session.execute(sql(row), {"day": day})
    period = Period(date(2026, 3, 2), date(2026, 3, 3))
    assert [row.day for row in await store.usage_of(ADA, period)] == days[1:]


async def test_what_was_used_is_read_by_index(store: Store) -> None:
    """However many users and days there are."""
    with recorded(store) as ran:
        await answer(store, ADA, USAGE)
        await store.usage_of(ADA, PERIOD)
    of_usage = [statement for statement in ran if "usage_days" in statement]
    assert len(of_usage) == 2
    assert await without_index(store, of_usage) == []


async def test_an_answer_ends_although_its_usage_is_locked(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the row. The log tells what is missing."""
    monkeypatch.setattr(quotas, "SETTLE_LOCK_SECONDS", 0.2)
    store, other = Store.open(postgres_url), Store.open(postgres_url)
    try:
        await answer(store, ADA, USAGE)
        async with other.writing() as session:
            await session.execute(sql("UPDATE usage_days SET cost = 7"))
            await answer(store, ADA, USAGE)
        assert await sums(store, ADA) == {"demo": (1, 0, 0, 10, 5, 7)}
    finally:
        await store.aclose()
        await other.aclose()
