"""streams/rates.py, in memory and on a real Valkey alike; and what happens while that is away."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from streams.rates import PAUSE_SECONDS, WINDOW_SECONDS, Counting, MemoryRates, Rates, RedisRates, Verdict
from tests.valkey import Valkey

PATIENCE_SECONDS = 20.0


@pytest.fixture(params=["memory", "redis"])
async def rates(request: pytest.FixtureRequest) -> AsyncIterator[Counting]:
    if request.param == "memory":
        yield MemoryRates()
        return
    redis = RedisRates(request.getfixturevalue("valkey_url"), PATIENCE_SECONDS)
    yield redis
    await redis.aclose()


async def test_so_many_and_no_more(rates: Counting) -> None:
    """What is refused is not counted; names are counted apart; the verdict says what is left and when there is room."""
    verdicts = [await rates.hit("ada", 3) for _ in range(5)]
    assert [verdict.allowed for verdict in verdicts] == [True, True, True, False, False]
    assert [verdict.remaining for verdict in verdicts] == [2, 1, 0, 0, 0]
    assert WINDOW_SECONDS - 5 < verdicts[-1].reset_seconds <= WINDOW_SECONDS
    assert (await rates.hit("bob", 3)).allowed


async def test_all_at_once_are_counted(rates: Counting) -> None:
    """Nobody passes by being quick."""
    verdicts = await asyncio.gather(*(rates.hit("ada", 3) for _ in range(8)))
    assert sum(verdict.allowed for verdict in verdicts) == 3


async def test_processes_count_together(valkey_url: str) -> None:
    """Several web processes share one count."""
    first, second = (RedisRates(valkey_url, PATIENCE_SECONDS) for _ in range(2))
    try:
        assert [(await which.hit("x", 2)).allowed for which in (first, second, first)] == [True, True, False]
    finally:
        await first.aclose()
        await second.aclose()


async def test_the_window_moves() -> None:
    """A place becomes free when the oldest hit is a window old, and not before."""
    now = 100.0
    rates = MemoryRates(lambda: now)
    assert (await rates.hit("x", 2)).allowed
    now += 40
    assert (await rates.hit("x", 2)).allowed
    refused = await rates.hit("x", 2)
    assert (refused.allowed, refused.reset_seconds) == (False, 20.0)
    now += 20
    assert (await rates.hit("x", 2)).allowed
    assert not (await rates.hit("x", 2)).allowed


class _Away:
    """A server that does not answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = TimeoutError()

    async def hit(self, name: str, limit: int) -> Verdict:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return Verdict(allowed=True, remaining=7, reset_seconds=1.0)


async def test_without_redis_the_process_counts_alone() -> None:
    """Limits hold within it, each such hit is counted, Redis is asked again after a pause."""
    now, alone, away = 0.0, [], _Away()
    rates = Rates(away, lambda: alone.append(1), lambda: now)
    assert [(await rates.hit("x", 2)).allowed for _ in range(3)] == [True, True, False]
    assert (away.asked, len(alone)) == (1, 3)
    now += PAUSE_SECONDS
    away.error = None
    assert (await rates.hit("x", 2)).remaining == 7


async def test_a_redis_that_hangs_holds_nobody_up(valkey: Valkey) -> None:
    """A frozen server costs one short wait, and then none for a while."""
    redis = RedisRates(valkey.url)
    rates = Rates(redis, lambda: None)
    await rates.hit("x", 9)
    valkey.freeze()
    try:
        began = time.monotonic()
        for _ in range(5):
            assert (await rates.hit("x", 9)).allowed
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
    finally:
        valkey.thaw()
        await redis.aclose()
