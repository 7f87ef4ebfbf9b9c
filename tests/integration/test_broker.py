"""The broker on a real Valkey that cannot serve for a while: like no connection, and over when the
outage is.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
import redis
from dramatiq import Message
from dramatiq.broker import MessageProxy
from dramatiq.common import dq_name
from dramatiq.errors import ConnectionClosed
from dramatiq.worker import ConsumerThread

from tests.servers.faultproxy import FaultProxy, fault_proxy
from tests.valkey import Valkey
from tokenwire.worker import broker as module
from tokenwire.worker.broker import (
    JOBS,
    LEADER,
    QUEUE,
    WAITING,
    Taken,
    WakingBroker,
    WakingConsumer,
    make_broker,
)
from tokenwire.worker.enqueue import GENERATE

PATIENCE_SECONDS = 60.0

Outage = tuple[Callable[[Valkey], None], Callable[[Valkey], None], str]
OUTAGES = [
    pytest.param((Valkey.fill, Valkey.empty, "OOM"), id="OOM"),
    pytest.param((Valkey.break_saving, Valkey.mend_saving, "MISCONF"), id="MISCONF"),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)


@pytest.fixture
def broker(valkey: Valkey) -> Iterator[WakingBroker]:
    made = make_broker(valkey.url, threads=4)
    yield made
    made.close()


def job(name: str, queue: str = QUEUE) -> Message[None]:
    return Message(queue_name=queue, actor_name=GENERATE, args=(name,), kwargs={}, options={})


def consumer_of(broker: WakingBroker, queue: str = QUEUE) -> WakingConsumer:
    consumer = broker.consume(queue, prefetch=8, timeout=50)
    assert isinstance(consumer, WakingConsumer)
    return consumer


def next_job(consumer: WakingConsumer) -> MessageProxy:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (message := next(consumer)) is None:
        assert time.monotonic() < deadline, "no job came"
    return message


@pytest.mark.parametrize("outage", OUTAGES)
def test_a_consumer_waits_for_a_server_that_cannot_write(
    valkey: Valkey, broker: WakingBroker, outage: Outage
) -> None:
    """It keeps what it has fetched and continues; Dramatiq would restart after 3 s and forget
    it.
    """
    begin, end, _word = outage
    broker.enqueue(job("first"))
    consumer = consumer_of(broker)
    first = next_job(consumer)
    begin(valkey)
    assert [next(consumer) for _ in range(3)] == [None, None, None]
    with pytest.raises(ConnectionClosed):  # Dramatiq repeats this until it succeeds
        consumer.ack(first)
    with pytest.raises(ConnectionClosed):
        consumer.requeue([first])
    end(valkey)
    consumer.ack(first)
    broker.enqueue(job("second"))
    assert next_job(consumer).args == ("second",)


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_is_reported_in_the_servers_words(
    valkey: Valkey, broker: WakingBroker, outage: Outage
) -> None:
    """To the caller that enqueues."""
    begin, _end, word = outage
    begin(valkey)
    with pytest.raises(redis.ConnectionError, match=word):
        broker.enqueue(job("refused"))


def test_a_faulty_command_is_no_outage(broker: WakingBroker) -> None:
    """It would fail again and again, so it is raised unchanged."""
    with pytest.raises(redis.ResponseError):
        broker.client.execute_command("NONSENSE")


def test_a_due_job_outlives_an_outage(valkey: Valkey, broker: WakingBroker) -> None:
    """Dramatiq removes it from its memory before it moves it: an outage at that moment must not
    lose it.
    """
    moved = threading.Event()

    class Mover(ConsumerThread):
        def __init__(self) -> None:
            threading.Thread.__init__(self, daemon=True)

        def run(self) -> None:
            broker.enqueue(job("due"))
            moved.set()

    valkey.fill()
    Mover().start()
    assert not moved.wait(0.2)
    valkey.empty()
    assert moved.wait(PATIENCE_SECONDS)
    assert next_job(consumer_of(broker)).args == ("due",)


def test_a_drain_does_not_wait_for_an_outage(valkey: Valkey, broker: WakingBroker) -> None:
    """The job is not lost: other workers take it when this one is gone."""
    failed = threading.Event()

    class Mover(ConsumerThread):
        def __init__(self) -> None:
            threading.Thread.__init__(self, daemon=True)

        def run(self) -> None:
            try:
                broker.enqueue(job("due"))
            except redis.ConnectionError:
                failed.set()

    valkey.fill()
    Mover().start()
    broker.drain()
    assert failed.wait(PATIENCE_SECONDS)


@pytest.fixture
async def proxy(valkey: Valkey) -> AsyncIterator[FaultProxy]:
    """The one address of a pair of servers."""
    async with fault_proxy("127.0.0.1", valkey.port) as made:
        yield made


async def test_a_failover_is_noticed(valkey: Valkey, replica: Valkey, proxy: FaultProxy) -> None:
    """The master is demoted, the replica promoted, and the address points there: an old connection
    would be refused for ever (READONLY).
    """
    broker = make_broker(f"redis://127.0.0.1:{proxy.port}/0", threads=4)
    try:
        await asyncio.to_thread(broker.enqueue, job("first"))
        consumer = consumer_of(broker)
        first = await asyncio.to_thread(next_job, consumer)
        await asyncio.to_thread(replica.promote)
        await asyncio.to_thread(valkey.follow, replica)
        assert (
            await asyncio.to_thread(next, consumer) is None
        )  # the demoted server refuses the heartbeat
        proxy.lead_to(replica.port)
        await asyncio.to_thread(broker.enqueue, job("second"))
        assert (await asyncio.to_thread(next_job, consumer)).args == ("second",)
        await asyncio.to_thread(consumer.ack, first)
        with replica.client() as client:
            assert client.hlen(f"dramatiq:{QUEUE}.msgs") == 1
            assert client.hlen(f"dramatiq:{dq_name(QUEUE)}.msgs") == 0
    finally:
        broker.close()


@pytest.mark.parametrize("queue", [QUEUE, dq_name(QUEUE)])
async def test_a_lost_delivery_is_repeated(valkey: Valkey, proxy: FaultProxy, queue: str) -> None:
    """Redis has delivered the job, but the reply was lost: no other worker would get it while this
    one lives.
    """
    broker = make_broker(f"redis://127.0.0.1:{proxy.port}/0", threads=4)
    try:
        consumer = consumer_of(broker, queue)
        await asyncio.to_thread(broker.enqueue, job("a", queue))
        running = await asyncio.to_thread(next_job, consumer)
        await asyncio.to_thread(broker.enqueue, job("b", queue))
        proxy.faults.cut_after_bytes = 0
        fetching = asyncio.create_task(asyncio.to_thread(next, consumer))
        while len(delivered := await asyncio.to_thread(_delivered, valkey, broker, queue)) < 2:
            await asyncio.sleep(0.002)
        proxy.faults.cut_after_bytes = None
        message = await fetching or await asyncio.to_thread(next_job, consumer)
        assert (running.args, message.args) == (
            ("a",),
            ("b",),
        )  # the running job is not delivered again
        assert await asyncio.to_thread(_delivered, valkey, broker, queue) == delivered
        for done in (running, message):
            await asyncio.to_thread(consumer.ack, done)
        assert await asyncio.to_thread(next, consumer) is None
        assert not await asyncio.to_thread(_delivered, valkey, broker, queue)
        assert not consumer.holding
    finally:
        broker.close()


def _delivered(valkey: Valkey, broker: WakingBroker, queue: str) -> set[bytes]:
    with valkey.client() as client:
        return set(client.smembers(f"dramatiq:__acks__.{broker.broker_id}.{queue}"))


def test_a_woken_consumer_sleeps_again(broker: WakingBroker) -> None:
    """When nothing is left to fetch; otherwise an idle worker would query Redis without end."""
    consumer = consumer_of(broker)
    consumer._woken.set()
    assert next(consumer) is None
    assert not consumer._woken.is_set()


def test_a_started_job_leaves_nothing_in_redis(broker: WakingBroker) -> None:
    """Neither its mark as waiting nor its id: in a year these would fill Redis."""
    for number in range(3):
        broker.enqueue(job(f"m{number}"))
        Taken().before_process_message(broker, job(f"m{number}"))
    assert (broker.client.zcard(WAITING), broker.client.hlen(JOBS)) == (0, 0)


def test_an_expired_leadership_with_a_future_end_is_taken_over(
    valkey: Valkey, broker: WakingBroker
) -> None:
    """The clock was set back by an hour under a leader that has died: otherwise nobody would sweep
    for that hour.
    """
    assert broker.lead("alive", 1_500)
    assert not broker.lead("other", 1_500)
    broker.client.set(LEADER, "dead", px=3_600_000)
    assert broker.lead("other", 1_500)
    assert not broker.lead("alive", 1_500)
    # Redis-py types both of its kinds of client.
    assert 0 < broker.client.pttl(LEADER) <= 1_500  # type: ignore[operator]
