"""Rates across all processes: exact in a sliding window, or in bulk per minute.

`RedisRates` counts on Redis with the library `limits`. `MemoryRates` counts in this process, with
the same contract, for tests and for `Rates`. All callers use `Rates`, which asks Redis and counts
alone while Redis is away: a limit must never cause an outage.

`InBulk` is for frequent, cheap events: it takes a share of a name's limit at a time and spends it
locally. So most hits cost no round trip, and none costs more than one. The price: minutes are those
of the clock, so up to twice the limit may pass around the change of a minute; and a share that one
process does not use is lost to the others until then.

Rejected: counting on Redis alone (an outage would refuse everybody, or nobody); a round trip for
each read (it would cost more than many reads do).
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import redis.asyncio
import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

from tokenwire.streams.log.outages import cannot_serve

log_line = structlog.get_logger(__name__)

WINDOW_SECONDS = 60
REDIS_TIMEOUT_SECONDS = 0.1
"""Longest wait of a request for Redis."""
PAUSE_SECONDS = 2.0
"""How long Redis is not asked after a failure."""
PREFIX = "tw:rates"
MAX_NAMES = 10_000
"""Names that a process remembers; above it, expired ones are forgotten."""
SHARES = 30
"""The number of shares into which a bulk limit is split."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RateCheck:
    """Whether it is allowed, how many more are, and when the next place becomes free."""

    allowed: bool
    remaining: int
    reset_seconds: float


class Counting(Protocol):
    """Counts hits by name."""

    async def hit(self, name: str, limit: int) -> RateCheck:
        """Count one more under this name, unless that exceeds `limit` within a window."""

    async def add(self, name: str, amount: int) -> int:
        """Add `amount` under this name, and return the sum.

        The sum is forgotten one window after the name's first hit.
        """


class RedisRates:
    """Counts on Redis. Raises redis.RedisError, OSError or TimeoutError without it."""

    def __init__(self, url: str, timeout_seconds: float = REDIS_TIMEOUT_SECONDS) -> None:
        """`url`: redis://, rediss:// or unix://. Connects at its first use."""
        self._timeout_seconds = timeout_seconds
        self._storage = RedisStorage(
            _storage_url(url),
            implementation="redispy",
            key_prefix=PREFIX,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
        )
        # `implementation` decides the type of the bridge.
        bridge: Any = self._storage.bridge
        self._client: redis.asyncio.Redis = bridge.get_connection()
        self._window = MovingWindowRateLimiter(self._storage)

    async def hit(self, name: str, limit: int) -> RateCheck:
        item = RateLimitItemPerSecond(limit, WINDOW_SECONDS)
        async with self._asking():
            allowed = await self._window.hit(item, name)
            stats = await self._window.get_window_stats(item, name)
        return RateCheck(allowed, max(stats.remaining, 0), max(stats.reset_time - time.time(), 0.0))

    async def add(self, name: str, amount: int) -> int:
        async with self._asking():
            return await self._storage.incr(name, WINDOW_SECONDS, amount)

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Limit the time of a call. If the server cannot serve, close all connections.

        After a failover they would lead to the demoted server.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                yield
        except redis.RedisError as error:
            if cannot_serve(error):
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class MemoryRates:
    """Counts in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hits: dict[str, deque[float]] = {}
        self._sums: dict[str, tuple[float, int]] = {}

    async def hit(self, name: str, limit: int) -> RateCheck:
        now = self._clock()
        if name not in self._hits and len(self._hits) >= MAX_NAMES:
            self._hits = {
                name: hits for name, hits in self._hits.items() if hits[-1] > now - WINDOW_SECONDS
            }
        hits = self._hits.setdefault(name, deque())
        while hits and hits[0] <= now - WINDOW_SECONDS:
            hits.popleft()
        allowed = len(hits) < limit
        if allowed:
            hits.append(now)
        return RateCheck(
            allowed, limit - len(hits), hits[0] + WINDOW_SECONDS - now if hits else 0.0
        )

    async def add(self, name: str, amount: int) -> int:
        now = self._clock()
        if name not in self._sums and len(self._sums) >= MAX_NAMES:
            self._sums.clear()
        until, before = self._sums.get(name, (now + WINDOW_SECONDS, 0))
        if until <= now:
            until, before = now + WINDOW_SECONDS, 0
        self._sums[name] = until, before + amount
        return before + amount


class Rates:
    """Asks `shared`, and counts in this process while that is away. Then it calls `alone`."""

    def __init__(
        self,
        shared: Counting | None,
        alone: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared, self._alone, self._clock = shared, alone, clock
        self._memory = MemoryRates(clock)
        self._asked_again_at = -math.inf

    async def hit(self, name: str, limit: int) -> RateCheck:
        """Count one more, in this process if Redis is away. Never raises for Redis, and waits only
        briefly.
        """
        return await self._with_fallback(lambda counting: counting.hit(name, limit))

    async def add(self, name: str, amount: int) -> int:
        """Add to a sum, in this process if Redis is away.

        Waits REDIS_TIMEOUT_SECONDS at most, and never raises an error of Redis.
        """
        return await self._with_fallback(lambda counting: counting.add(name, amount))

    async def _with_fallback(self, question: Callable[[Counting], Awaitable[T]]) -> T:
        if self._shared is None:
            return await question(self._memory)
        if self._clock() >= self._asked_again_at:
            try:
                return await question(self._shared)
            except (redis.RedisError, OSError, TimeoutError) as error:
                self._asked_again_at = self._clock() + PAUSE_SECONDS
                log_line.warning("rates are counted by this process alone", error=repr(error))
        self._alone()
        return await question(self._memory)


@dataclass(slots=True)
class _Share:
    """What this process may still spend of a name's minute.

    `others`: what was left of the limit for all processes at the last call.
    """

    minute: int
    left: int = 0
    others: int = 0
    used_up: bool = False


class InBulk:
    """Counts by shares of a minute. `clock`: seconds since 1970, the same in all processes."""

    def __init__(self, counting: Counting, clock: Callable[[], float] = time.time) -> None:
        self._counting, self._clock = counting, clock
        self._shares: dict[str, _Share] = {}

    async def hit(self, limits: Mapping[str, int]) -> list[RateCheck]:
        """Count one more under each of these names in order, until one refuses: its check is the
        last.
        """
        minute, seconds = divmod(self._clock(), WINDOW_SECONDS)
        shares = [self._share(name, int(minute)) for name in limits]
        asked = [
            self._take_share(name, share, limit)
            for share, (name, limit) in zip(shares, limits.items(), strict=True)
            if not (share.left or share.used_up)
        ]
        if asked:
            await asyncio.gather(*asked)
        checks: list[RateCheck] = []
        for share in shares:
            allowed = share.left > 0
            share.left -= allowed
            checks.append(RateCheck(allowed, share.left + share.others, WINDOW_SECONDS - seconds))
            if not allowed:
                break
        return checks

    def _share(self, name: str, minute: int) -> _Share:
        share = self._shares.get(name)
        if share is None or share.minute != minute:
            if (
                share is None and len(self._shares) >= MAX_NAMES
            ):  # a forgotten name takes another share
                self._shares.clear()
            share = self._shares[name] = _Share(minute)
        return share

    async def _take_share(self, name: str, share: _Share, limit: int) -> None:
        amount = max(1, limit // SHARES)
        left = limit - await self._counting.add(f"{name}/{share.minute}", amount)
        share.left += max(0, min(amount, left + amount))
        share.others, share.used_up = max(0, left), left <= 0


def _storage_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"async+redis+unix://{rest}" if scheme == "unix" else f"async+{url}"
