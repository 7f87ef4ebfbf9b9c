"""streams/limits/rates.py, in memory and on Valkey, and without Redis."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from tests.valkey import Valkey
from tokenwire.streams.limits import rates as module
from tokenwire.streams.limits.rates import (
    PAUSE_SECONDS,
    WINDOW_SECONDS,
    Counting,
    InBulk,
    MemoryRates,
    RateCheck,
    Rates,
    RedisRates,
)

PATIENCE_SECONDS = 20.0


@pytest.fixture(params=["memory", "redis"])
async def rates(request: pytest.FixtureRequest) -> AsyncIterator[Counting]:
    if request.param == "memory":
        yield MemoryRates()
        return
    redis = RedisRates(request.getfixturevalue("valkey_url"), PATIENCE_SECONDS)
    yield redis
    await redis.aclose()


async def test_the_limit_is_exact(rates: Counting) -> None:
    """Refused hits do not count and names are separate. The check has the rest and the time until
    there is room.
    """
    checks = [await rates.hit("ada", 3) for _ in range(5)]
    assert [check.allowed for check in checks] == [True, True, True, False, False]
    assert [check.remaining for check in checks] == [2, 1, 0, 0, 0]
    assert WINDOW_SECONDS - 5 < checks[-1].reset_seconds <= WINDOW_SECONDS
    assert (await rates.hit("bob", 3)).allowed


async def test_simultaneous_hits_are_counted(rates: Counting) -> None:
    """Speed does not get past the limit."""
    checks = await asyncio.gather(*(rates.hit("ada", 3) for _ in range(8)))
    assert sum(check.allowed for check in checks) == 3


async def test_processes_count_together(valkey_url: str) -> None:
    """Several web processes share one count."""
    first, second = (RedisRates(valkey_url, PATIENCE_SECONDS) for _ in range(2))
    try:
        assert [(await which.hit("x", 2)).allowed for which in (first, second, first)] == [
            True,
            True,
            False,
        ]
    finally:
        await first.aclose()
        await second.aclose()


async def test_the_window_moves() -> None:
    """A place becomes free when the oldest hit is one window old, and not before."""
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


async def test_sums_of_a_name(rates: Counting) -> None:
    """Several amounts at once, names separate; nothing is refused."""
    assert [await rates.add("ada", amount) for amount in (5, 1, 20)] == [5, 6, 26]
    assert await rates.add("bob", 1) == 1


async def test_a_sum_expires() -> None:
    """A window after its first hit."""
    now = 100.0
    rates = MemoryRates(lambda: now)
    await rates.add("x", 2)
    now += WINDOW_SECONDS - 1
    assert await rates.add("x", 2) == 4
    now += 1
    assert await rates.add("x", 2) == 2


class _Asked:
    """Counts in memory, and counts its calls; simultaneous calls are answered at once."""

    def __init__(self) -> None:
        self.amounts: list[int] = []
        self._sums: Counter[str] = Counter()

    async def hit(self, name: str, limit: int) -> RateCheck:
        raise NotImplementedError

    async def add(self, name: str, amount: int) -> int:
        self.amounts.append(amount)
        await asyncio.sleep(0)
        self._sums[name] += amount
        return self._sums[name]


NOON = 12 * 3600.0


async def test_in_bulk_redis_is_called_rarely() -> None:
    """A thirtieth of the limit is taken at a time; the headers' numbers count each hit."""
    asked = _Asked()
    bulk = InBulk(asked, lambda: NOON + 20)
    checks = [(await bulk.hit({"ada": 60}))[0] for _ in range(61)]
    assert [check.allowed for check in checks] == [True] * 60 + [False]
    assert [check.remaining for check in checks] == [*range(59, -1, -1), 0]
    assert {check.reset_seconds for check in checks} == {40.0}
    assert asked.amounts == [2] * 30
    await bulk.hit({"ada": 60})
    assert len(asked.amounts) == 30, "who has used a minute up is refused without a question"


async def test_in_bulk_processes_share_a_limit() -> None:
    """A share of one process is lost to the other; the total never exceeds the limit."""
    asked = _Asked()
    first, second = (InBulk(asked, lambda: NOON) for _ in range(2))
    allowed = [(await which.hit({"ada": 60}))[0].allowed for which in [first] * 30 + [second] * 40]
    assert allowed == [True] * 60 + [False] * 10
    assert not (await first.hit({"ada": 60}))[0].allowed


async def test_in_bulk_the_last_share_is_smaller() -> None:
    """It is what is left of the limit."""
    bulk = InBulk(_Asked(), lambda: NOON)
    assert sum([(await bulk.hit({"ada": 95}))[0].allowed for _ in range(120)]) == 95
    assert sum([(await bulk.hit({"bob": 7}))[0].allowed for _ in range(120)]) == 7


async def test_in_bulk_each_minute_is_new() -> None:
    """By the clock that all processes share."""
    now = NOON + 59
    bulk = InBulk(_Asked(), lambda: now)
    assert [(await bulk.hit({"ada": 2}))[0].allowed for _ in range(3)] == [True, True, False]
    now += 1
    assert [(await bulk.hit({"ada": 2}))[0].allowed for _ in range(3)] == [True, True, False]


async def test_in_bulk_a_refusal_of_one_name_costs_the_other_nothing() -> None:
    """A user who reads without end takes nothing from others at the same address."""
    bulk = InBulk(_Asked(), lambda: NOON)
    for _ in range(50):
        checks = await bulk.hit({"ada": 3, "here": 5})
    assert [check.allowed for check in checks] == [False]
    assert [check.allowed for check in await bulk.hit({"bob": 3, "here": 5})] == [True, True]


async def test_in_bulk_simultaneous_hits_are_counted() -> None:
    """Speed does not get past the limit."""
    bulk = InBulk(_Asked(), lambda: NOON)
    checks = await asyncio.gather(*(bulk.hit({"ada": 30, "here": 60}) for _ in range(100)))
    assert sum(all(check.allowed for check in found) for found in checks) == 30


async def test_in_bulk_one_round_trip_at_most() -> None:
    """Both names are counted at the same time."""
    asked, waiting = 0, asyncio.Event()

    class Slow(_Asked):
        async def add(self, name: str, amount: int) -> int:
            nonlocal asked
            asked += 1
            if asked == 2:
                waiting.set()
            await waiting.wait()
            return amount

    async with asyncio.timeout(PATIENCE_SECONDS):
        assert len(await InBulk(Slow(), lambda: NOON).hit({"ada": 30, "here": 60})) == 2


async def test_in_bulk_names_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come within a minute: a forgotten name has what is left of the limit."""
    monkeypatch.setattr(module, "MAX_NAMES", 3)
    bulk = InBulk(_Asked(), lambda: NOON)
    allowed = 0
    for number in range(40):
        allowed += (await bulk.hit({"ada": 5}))[0].allowed
        await bulk.hit({f"user{number}": 5})
        assert len(bulk._shares) <= 3
    assert allowed == 5


async def test_a_new_minute_of_a_known_name_forgets_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes no further place."""
    monkeypatch.setattr(module, "MAX_NAMES", 2)
    now = NOON
    bulk = InBulk(_Asked(), lambda: now)
    for name in ("ada", "bob"):
        await bulk.hit({name: 60})
    now += WINDOW_SECONDS
    await bulk.hit({"ada": 60})
    assert len(bulk._shares) == 2


async def test_sums_are_kept_for_a_bounded_number_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known name is added up; a new one without a place empties the table."""
    monkeypatch.setattr(module, "MAX_NAMES", 2)
    rates = MemoryRates(lambda: 0.0)
    assert [await rates.add(name, 1) for name in ("ada", "bob", "ada", "bob", "ada")] == [
        1,
        1,
        2,
        2,
        3,
    ]
    assert [await rates.add(name, 1) for name in ("eve", "ada")] == [1, 1]


class _Away:
    """A server that does not answer."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = TimeoutError()

    async def hit(self, name: str, limit: int) -> RateCheck:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return RateCheck(allowed=True, remaining=7, reset_seconds=1.0)

    async def add(self, name: str, amount: int) -> int:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return 100 + amount


async def test_without_redis_the_process_counts_alone() -> None:
    """Limits hold within the process, each such hit is counted, and Redis is tried again after a
    pause.
    """
    now, alone, away = 0.0, [], _Away()
    rates = Rates(away, lambda: alone.append(1), lambda: now)
    assert [(await rates.hit("x", 2)).allowed for _ in range(3)] == [True, True, False]
    assert (away.asked, len(alone)) == (1, 3)
    now += PAUSE_SECONDS
    away.error = None
    assert (await rates.hit("x", 2)).remaining == 7


async def test_without_redis_the_process_adds_alone() -> None:
    """Sums behave like limits."""
    now, alone, away = 0.0, [], _Away()
    rates = Rates(away, lambda: alone.append(1), lambda: now)
    assert [await rates.add("x", 2) for _ in range(3)] == [2, 4, 6]
    assert (away.asked, len(alone)) == (1, 3)
    now += PAUSE_SECONDS
    away.error = None
    assert await rates.add("x", 2) == 102


async def test_a_hanging_redis_delays_nobody(valkey: Valkey) -> None:
    """A frozen server costs one short wait, then none for a while."""
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
