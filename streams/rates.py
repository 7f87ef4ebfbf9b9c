"""How often something happens, counted for all processes together: so many times in a window that moves.

`RedisRates` counts on Redis, by the library `limits`. `MemoryRates` counts in this process alone: the same contract, for tests and for
`Rates`, which everybody uses: it asks Redis, and goes on by itself while Redis is away. A limit must never be the reason why nothing is
answered.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import redis
import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter

log_line = structlog.get_logger(__name__)

WINDOW_SECONDS = 60
PATIENCE_SECONDS = 0.1
"""How long a request waits for Redis."""
PAUSE_SECONDS = 2.0
"""After a failure Redis is not asked for so long."""
PREFIX = "tw:rates"
MAX_NAMES = 10_000
"""Names that a process remembers; beyond it those that are over are forgotten."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether it may happen now, how often more, and when the next place becomes free."""

    allowed: bool
    remaining: int
    reset_seconds: float


class Counting(Protocol):
    """Counts."""

    async def hit(self, name: str, limit: int) -> Verdict:
        """Count once more under this name, unless that would be more than `limit` in a window."""


class RedisRates:
    """On Redis. Raises redis.RedisError, OSError or TimeoutError while that is away."""

    def __init__(self, url: str, patience: float = PATIENCE_SECONDS) -> None:
        """`url`: redis://, rediss:// or unix://. Connects when first used. `patience`: seconds."""
        self._patience = patience
        self._storage = RedisStorage(
            _storage_url(url),
            implementation="redispy",
            key_prefix=PREFIX,
            socket_timeout=patience,
            socket_connect_timeout=patience,
        )
        self._window = MovingWindowRateLimiter(self._storage)

    async def hit(self, name: str, limit: int) -> Verdict:
        """See Counting."""
        item = RateLimitItemPerSecond(limit, WINDOW_SECONDS)
        async with asyncio.timeout(self._patience):
            allowed = await self._window.hit(item, name)
            stats = await self._window.get_window_stats(item, name)
        return Verdict(allowed, max(stats.remaining, 0), max(stats.reset_time - time.time(), 0.0))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._storage.bridge.get_connection().aclose()  # type: ignore[attr-defined]  # redis-py's client, by `implementation`


class MemoryRates:
    """In this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hits: dict[str, deque[float]] = {}

    async def hit(self, name: str, limit: int) -> Verdict:
        """See Counting."""
        now = self._clock()
        if name not in self._hits and len(self._hits) >= MAX_NAMES:
            self._hits = {name: hits for name, hits in self._hits.items() if hits[-1] > now - WINDOW_SECONDS}
        hits = self._hits.setdefault(name, deque())
        while hits and hits[0] <= now - WINDOW_SECONDS:
            hits.popleft()
        allowed = len(hits) < limit
        if allowed:
            hits.append(now)
        return Verdict(allowed, limit - len(hits), hits[0] + WINDOW_SECONDS - now if hits else 0.0)


class Rates:
    """Asks `shared`, and counts alone while that is away. `alone` is called each time."""

    def __init__(self, shared: Counting | None, alone: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._shared, self._alone, self._clock = shared, alone, clock
        self._memory = MemoryRates(clock)
        self._asked_again_at = -math.inf

    async def hit(self, name: str, limit: int) -> Verdict:
        """See Counting. Never raises for Redis, and never waits long for it."""
        if self._shared is None:
            return await self._memory.hit(name, limit)
        if self._clock() >= self._asked_again_at:
            try:
                return await self._shared.hit(name, limit)
            except (redis.RedisError, OSError, TimeoutError) as error:
                self._asked_again_at = self._clock() + PAUSE_SECONDS
                log_line.warning("rates are counted by this process alone", error=repr(error))
        self._alone()
        return await self._memory.hit(name, limit)


def _storage_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"async+redis+unix://{rest}" if scheme == "unix" else f"async+{url}"
