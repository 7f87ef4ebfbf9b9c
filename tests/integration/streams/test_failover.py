"""The log and pub/sub when Redis fails over: the master is demoted, its replica promoted, and the
address points to the replica.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis

from tests.servers.faultproxy import FaultProxy, fault_proxy
from tests.valkey import Valkey
from tokenwire.protocol.events import Title
from tokenwire.streams.hub.pubsub import RedisPubSub
from tokenwire.streams.limits.rates import RedisRates
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import LogUnavailable
from tokenwire.streams.log.redis import RedisLog

PATIENCE_SECONDS = 20


@pytest.fixture
async def proxy(valkey: Valkey) -> AsyncIterator[FaultProxy]:
    async with fault_proxy("127.0.0.1", valkey.port) as made:
        yield made


async def fail_over(old: Valkey, new: Valkey) -> None:
    await asyncio.to_thread(new.promote)
    await asyncio.to_thread(old.follow, new)


async def test_a_failover_is_noticed(valkey: Valkey, replica: Valkey, proxy: FaultProxy) -> None:
    """READONLY is an outage, and the next call connects anew; the old connection would stay with
    the demoted server for ever.
    """
    log = RedisLog(f"redis://127.0.0.1:{proxy.port}/0")
    try:
        await log.announce("c", "c", 1, Title("one", 1))
        await fail_over(valkey, replica)
        assert await log.check_write() == "READONLY: it cannot write"
        with pytest.raises(LogUnavailable, match="READONLY"):
            await log.announce("c", "c", 2, Title("two", 2))
        proxy.lead_to(replica.port)
        await log.announce("c", "c", 2, Title("two", 2))
        assert await log.check_write() is None
    finally:
        await log.aclose()


@pytest.mark.parametrize(
    "count",
    [lambda rates: rates.hit("ada", 90), lambda rates: rates.add("ada", 1)],
    ids=["hit", "add"],
)
async def test_rates_notice_a_failover(
    valkey: Valkey,
    replica: Valkey,
    proxy: FaultProxy,
    count: Callable[[RedisRates], Awaitable[object]],
) -> None:
    """One refusal proves the demotion: every idle connection is closed, and none connects there
    again.
    """
    rates = RedisRates(f"redis://127.0.0.1:{proxy.port}/0", PATIENCE_SECONDS)
    try:
        await asyncio.gather(*(count(rates) for _ in range(4)))
        await fail_over(valkey, replica)
        with pytest.raises(redis.ReadOnlyError):
            await count(rates)
        proxy.lead_to(replica.port)
        await asyncio.gather(*(count(rates) for _ in range(4)))
    finally:
        await rates.aclose()


async def test_a_subscription_outlives_a_failover(
    valkey: Valkey, replica: Valkey, proxy: FaultProxy
) -> None:
    """A replica passes on what is published at its master, so readers still receive events."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    pubsub = RedisPubSub(f"redis://127.0.0.1:{proxy.port}/0")
    await pubsub.start(
        lambda messages: [heard.put_nowait(payload) for _, payload in messages] and None,
        lambda _channel: None,
    )
    log = RedisLog(f"redis://127.0.0.1:{replica.port}/0")
    try:
        await pubsub.subscribe(keys.CHANGES)
        await fail_over(valkey, replica)
        await log.touch("c")
        assert await asyncio.wait_for(heard.get(), PATIENCE_SECONDS) == b"c"
    finally:
        await pubsub.aclose()
        await log.aclose()


@pytest.mark.parametrize(
    ("begin", "end", "word"),
    [(Valkey.fill, Valkey.empty, "OOM"), (Valkey.break_saving, Valkey.mend_saving, "MISCONF")],
)
async def test_readiness_proves_a_write(
    valkey: Valkey, begin: object, end: object, word: str
) -> None:
    """A server that answers reads and refuses writes is not ready; it becomes ready again when it
    recovers.
    """
    log = RedisLog(valkey.url)
    try:
        assert await log.check_write() is None
        await asyncio.to_thread(begin, valkey)  # type: ignore[arg-type]  # a method of Valkey
        assert await log.check_write() == f"{word}: it cannot write"
        await asyncio.to_thread(end, valkey)  # type: ignore[arg-type]  # a method of Valkey
        assert await log.check_write() is None
    finally:
        await log.aclose()
