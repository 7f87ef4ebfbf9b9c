"""The log's client on a real Valkey that hangs, dies, loses its scripts or runs full."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from tests.servers.service import free_port
from tests.valkey import Valkey
from tokenwire.protocol.events import AnyEvent, Chunk
from tokenwire.streams.log import wire
from tokenwire.streams.log.ports import Busy, LogUnavailable, Lost
from tokenwire.streams.log.redis import RedisLog

LEASE = 60.0


def chunk(offset: int, content: str = "x") -> AnyEvent:
    return Chunk("m", 1, offset, content, 0)


@pytest.fixture
async def log(valkey: Valkey) -> AsyncIterator[RedisLog]:
    made = RedisLog(valkey.url)
    yield made
    await made.aclose()


async def test_a_batch_to_a_frozen_server_lands_once(
    log: RedisLog, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All copies of a batch that timed out arrive in the end, and one of them counts."""
    monkeypatch.setattr(wire, "REPLY_SECONDS", 0.2)
    claim = await log.claim("c", "m", 0, LEASE)
    valkey.freeze()
    appending = asyncio.create_task(log.append(claim, 0, 0, [chunk(0), chunk(1)]))
    with pytest.raises(LogUnavailable):
        await log.read("c", None, 0, 10)
    await asyncio.sleep(1)  # some copies are on their way
    assert not appending.done()
    valkey.thaw()
    assert (await appending).last_seq == 2
    assert (await log.append(claim, 1, 0, [chunk(2)])).first_seq == 3
    assert [entry.seq for entry in (await log.read("c", None, 0, 10)).entries] == [1, 2, 3]


async def test_an_append_waits_for_a_server_that_is_away(log: RedisLog, valkey: Valkey) -> None:
    """It raises Lost when the restarted server is back and continues there. The other calls raise
    LogUnavailable.
    """
    claim = await log.claim("c", "m", 0, LEASE)
    valkey.stop()
    appending = asyncio.create_task(log.append(claim, 0, 0, [chunk(0)]))
    for call in (
        log.renew(claim, LEASE),
        log.read("c", None, 0, 1),
        log.claim("c", "m2", 0, LEASE),
        log.check(),
    ):
        with pytest.raises(LogUnavailable):
            await call
    assert not appending.done()
    valkey.start()
    with pytest.raises(Lost):
        await appending
    again = await log.rejoin(claim, 0, LEASE)
    assert (await log.append(again, 0, 0, [chunk(0)])).first_seq == 1


async def test_cancelling_an_append_is_safe(
    log: RedisLog, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller may repeat the same index, whether the batch landed or not."""
    monkeypatch.setattr(wire, "REPLY_SECONDS", 0.2)
    claim = await log.claim("c", "m", 0, LEASE)
    valkey.freeze()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await log.append(claim, 0, 0, [chunk(0)])
    valkey.thaw()
    assert (await log.append(claim, 0, 0, [chunk(0)])).last_seq == 1
    assert (await log.read("c", None, 0, 10)).top == 1


async def test_flushed_scripts_are_sent_again(log: RedisLog, valkey: Valkey) -> None:
    """NOSCRIPT is nobody's error. The connection has sent the scripts before and calls them by
    hash.
    """
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    await log.read("c", None, 0, 1)
    with valkey.client() as client:
        client.script_flush()
    reads = [log.read(f"c{n}", None, 0, 1) for n in range(20)]
    *pages, appended = await asyncio.gather(*reads, log.append(claim, 1, 0, [chunk(1)]))
    assert [page.top for page in pages] == [0] * 20
    assert appended.last_seq == 2
    with valkey.client() as client:
        assert client.info("errorstats")["errorstat_NOSCRIPT"]["count"] > 0


async def test_a_full_server_makes_a_batch_wait(log: RedisLog, valkey: Valkey) -> None:
    """Out of memory passes; nothing is half written."""
    claim = await log.claim("c", "m", 0, LEASE)
    with valkey.client() as client:
        client.config_set("maxmemory", 1)
        appending = asyncio.create_task(log.append(claim, 0, 0, [chunk(0), chunk(1)]))
        with pytest.raises(LogUnavailable, match="maxmemory"):
            await log.announce("c", "r", 1, chunk(0))
        assert not appending.done()
        client.config_set("maxmemory", 0)
    assert (await appending).last_seq == 2


async def test_many_calls_share_few_round_trips(log: RedisLog, valkey: Valkey) -> None:
    """Calls during a pipeline leave with the next one; every caller gets its own reply."""
    claims = await asyncio.gather(*(log.claim(f"c{n}", "m", n, LEASE) for n in range(1000)))
    assert [claim.attempt for claim in claims] == list(range(1, 1001))
    appended = await asyncio.gather(
        *(log.append(claim, 0, 0, [chunk(0)] * (1 + n % 3)) for n, claim in enumerate(claims))
    )
    assert [result.last_seq for result in appended] == [1 + n % 3 for n in range(1000)]
    refused = await asyncio.gather(
        *(log.claim(f"c{n}", "m", n, LEASE) for n in range(10)), return_exceptions=True
    )
    assert {type(refusal) for refusal in refused} == {Busy}
    with valkey.client() as client:
        assert client.info("clients")["connected_clients"] == 2


async def test_a_password_and_a_database_are_taken_from_the_url(valkey: Valkey) -> None:
    """Without them the server is LogUnavailable, not a crash."""
    with valkey.client() as client:
        client.config_set("requirepass", "s3cret")
    for url, works in (
        (f"redis://:s3cret@127.0.0.1:{valkey.port}/3", True),
        (valkey.url, False),
        (f"redis://:no@127.0.0.1:{valkey.port}/0", False),
    ):
        async with aclosing(RedisLog(url)) as log:
            if works:
                assert (await log.read("c", None, 0, 1)).top == 0
            else:
                with pytest.raises(LogUnavailable):
                    await log.read("c", None, 0, 1)


async def test_nobody_listens() -> None:
    """A wrong port is LogUnavailable at once."""
    async with aclosing(RedisLog(f"redis://127.0.0.1:{free_port()}/0")) as log:
        with pytest.raises(LogUnavailable):
            await log.read("c", None, 0, 1)
    with pytest.raises(LogUnavailable):
        await log.read("c", None, 0, 1)


async def test_closing_ends_every_wait(log: RedisLog, valkey: Valkey) -> None:
    """Even that of an append, which would wait for ever."""
    claim = await log.claim("c", "m", 0, LEASE)
    valkey.freeze()
    waiting = [
        asyncio.create_task(log.append(claim, 0, 0, [chunk(0)])),
        *(asyncio.create_task(log.read("c", None, 0, 1)) for _ in range(3)),
    ]
    await asyncio.sleep(0.1)
    await log.aclose()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(result) for result in results} == {LogUnavailable}


async def test_readiness_checks_the_eviction_policy(log: RedisLog, valkey: Valkey) -> None:
    """A server that may evict keys is refused."""
    assert await log.check() is None
    with valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    assert await log.check() == "maxmemory-policy is allkeys-lru, must be noeviction"


async def test_all_keys_of_a_log_expire_together(log: RedisLog, valkey: Valkey) -> None:
    """No key lives for ever, and none expires alone."""
    claim = await log.claim("c", "m", 0, LEASE)
    await log.append(claim, 0, 0, [chunk(0)])
    await log.read("only read", None, 0, 1)
    await log.request_cancel("only cancelled", "m", "u")
    await log.delete("deleted")
    with valkey.client() as client:
        remaining = {key: client.pttl(key) for key in client.keys("*")}
    day = 24 * 3600 * 1000
    assert all(0 < left <= day for left in remaining.values())
    together = [left for key, left in remaining.items() if key.startswith(b"tw2:{c}")]
    assert len(together) == 3
    assert max(together) - min(together) < 1000


async def test_a_script_without_info_still_works(log: RedisLog, valkey: Valkey) -> None:
    """If a user may not call INFO, epochs change only when keys are lost."""
    with valkey.client() as client:
        client.execute_command("ACL", "SETUSER", "plain", "on", ">pw", "~*", "&*", "+@all", "-info")
    async with aclosing(RedisLog(f"redis://plain:pw@127.0.0.1:{valkey.port}/0")) as plain:
        claim = await plain.claim("c", "m", 0, LEASE)
        assert (await plain.append(claim, 0, 0, [chunk(0)])).last_seq == 1
        assert (await plain.read("c", claim.epoch, 0, 9)).top == 1


async def test_coalescing_delays_pipelines(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call leaves at once; calls within the next span leave together."""
    sent: list[int] = []
    settle = wire.Wire._settle

    async def counting(self: wire.Wire, calls: list[wire._RedisCommand]) -> None:
        sent.append(len(calls))
        await settle(self, calls)

    monkeypatch.setattr(wire.Wire, "_settle", counting)
    async with aclosing(RedisLog(valkey.url, coalesce_ms=200)) as log:
        await log.read("c", None, 0, 1)
        reads = []
        for _ in range(10):
            reads.append(asyncio.create_task(log.read("c", None, 0, 1)))
            await asyncio.sleep(0)
        await asyncio.gather(*reads)
    assert sent == [1, 10]


async def test_a_wrong_argument_fails_only_its_caller(log: RedisLog) -> None:
    """Concurrent callers are served."""
    results = await asyncio.gather(
        log.read("a", None, 0, 1),
        log.read("b", None, object(), 1),
        log.read("c", None, 0, 1),
        return_exceptions=True,
    )  # type: ignore[arg-type]  # what is tested
    assert [isinstance(result, Exception) for result in results] == [False, True, False]


async def test_a_connection_that_closes_before_a_write(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop raises a RuntimeError. It is an outage: the caller gets LogUnavailable, no task dies,
    and the next call reconnects.
    """
    died: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: died.append(context))
    over = wire.Wire(valkey.url)
    connection = over._connection

    async def closed(*_arguments: object, **_options: object) -> None:
        raise RuntimeError(
            "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
        )

    try:
        assert await over.execute("PING") == b"PONG"
        with monkeypatch.context() as patch:
            patch.setattr(connection, "send_packed_command", closed)
            with pytest.raises(LogUnavailable):
                await over.execute("PING")
        assert await over.execute("PING") == b"PONG"
        gc.collect()
        assert died == []
    finally:
        await over.aclose()
