"""The Dramatiq broker: Redis, with consumers that are woken instead of polling, and the middleware
in order.

Stock consumers sleep up to a second between polls. Here every enqueue also publishes on a wake-up
channel; one thread per process listens and wakes the consumers, which then fetch at once. The poll
stays as a fallback: a lost wake-up costs its interval, no job.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
import structlog
from dramatiq import Broker, Message, Middleware, Worker

# the consumer has no public name, and no public hook to wait in
from dramatiq.brokers.redis import (
    RedisBroker,
    _RedisConsumer,
)
from dramatiq.common import dq_name
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Retries
from dramatiq.worker import ConsumerThread

from tokenwire.config.background import supervise_thread
from tokenwire.streams.log.outages import cannot_serve

log_line = structlog.get_logger(__name__)

QUEUE = "answers"
NAMESPACE = "dramatiq"
WAKE_CHANNEL = "tw:jobs"
WAITING = "tw:jobs:waiting"
"""zset: message id of each job that waits for a worker -> ms since when. The sweeper reads this
instead of the queue.
"""
JOBS = "tw:jobs:ids"
"""hash: message id of each job that waits for a worker -> its id in Dramatiq's queue."""
LEADER = "tw:sweeper"
"""Name of the process whose sweeper is active; expires."""
SOCKET_SECONDS = 5.0
FETCH_AT_MOST = 4
POLL_SECONDS = 1.0
DELAY_POLL_SECONDS = 0.2
"""How often a delay queue checks whether a job is due: the precision of a retry's delay."""
HEARTBEAT_TIMEOUT_MS = 15_000
IDLE_POLL_MS = 400
"""How often an idle worker thread checks whether it should end."""
LAST_POLL_SECONDS = 0.05
"""How often a consumer checks whether it should end, once no job runs any more.

Until then it wakes only for messages and heartbeats.
"""


_LEAD = """
-- A later end than any leadership gets was set before the clock was set back, perhaps for a
-- process that is gone.
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] and redis.call('PTTL', KEYS[1]) <= tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""


def now_ms() -> int:
    """The time by this machine's clock, in ms since 1970."""
    return int(time.time() * 1000)


def _noticing(pool: redis.ConnectionPool, on_loss: Callable[[], None]) -> type[redis.Connection]:
    """A connection class for `pool`: "not now" (streams.log.outages) ends the connection.

    So every command of the broker, Dramatiq's own included, sees only one kind of outage. All idle
    connections are closed at the same time: after a failover each would lead to the demoted server.
    `on_loss` is called for every connection that ends: the reply to its last command may be lost,
    and redis-py may repeat the command silently.
    """
    kind: type[redis.Connection] = pool.connection_class

    class Noticing(kind):  # type: ignore[misc, valid-type]  # which kind it is, the address decides
        def disconnect(self, *arguments: Any, **options: Any) -> None:
            on_loss()
            super().disconnect(*arguments, **options)

        def read_response(self, *arguments: Any, **options: Any) -> Any:
            try:
                return super().read_response(*arguments, **options)
            except redis.ResponseError as error:
                if not cannot_serve(error):
                    raise
                self.disconnect()
                pool.disconnect(inuse_connections=False)
                raise redis.ConnectionError(
                    f"Redis cannot serve: {error.status_code or ''} {error}"
                ) from error

    return Noticing


class WakingBroker(RedisBroker):
    """A RedisBroker whose consumers wake up after an enqueue.

    `draining`: fetch no new jobs, but continue the heartbeat. `losses`: connections that have ended
    so far, each with a reply that may be lost.
    """

    def __init__(self, url: str, *, middleware: Sequence[Middleware], max_connections: int) -> None:
        client = redis.Redis.from_url(
            url,
            max_connections=max_connections,
            socket_keepalive=True,
            socket_connect_timeout=SOCKET_SECONDS,
            socket_timeout=SOCKET_SECONDS,
            health_check_interval=30,
        )
        self.losses = 0
        client.connection_pool.connection_class = _noticing(client.connection_pool, self._lost)
        super().__init__(  # type: ignore[no-untyped-call]  # dramatiq is typed in part
            client=client,
            namespace=NAMESPACE,
            middleware=list(middleware),
            # Every command checks for dead workers: by default one in a thousand does, which takes
            # minutes on a quiet queue.
            maintenance_chance=1_000_000,
            heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        )
        self.draining = False
        self.leaving = False
        self.waker: Waker | None = None
        self._lead = client.register_script(_LEAD)

    def _lost(self) -> None:
        self.losses += 1

    def delivered(self, queue_name: str) -> set[str]:
        """Ids of the jobs of that queue that this process got and did not acknowledge."""
        jobs: set[Any] = self.client.smembers(
            f"{NAMESPACE}:__acks__.{self.broker_id}.{queue_name}"
        )  # replies are bytes here
        return {job.decode() for job in jobs}

    @property
    def consumer_class(self) -> type["WakingConsumer"]:
        """The class of the consumers that `consume` creates."""
        return WakingConsumer

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Enqueue, mark the job as waiting, wake the consumers of every worker process. Raises
        redis.RedisError.

        Where a delay queue moves a due job on, it waits for the end of an outage instead: Dramatiq
        has removed the job from its memory by then, and would never read it again.
        """
        while True:
            try:
                return self._enqueue(message, delay)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                if self.draining or not isinstance(threading.current_thread(), ConsumerThread):
                    raise
                log_line.warning("a due job waits for the queue", error=repr(error))
                time.sleep(POLL_SECONDS)

    def _enqueue(self, message: Message[Any], delay: int | None) -> Message[Any]:
        enqueued = super().enqueue(message, delay=delay)
        with self.client.pipeline(transaction=False) as pipeline:
            for job in message.args[:1]:
                pipeline.zadd(WAITING, {job: now_ms()})
                pipeline.hset(JOBS, job, enqueued.options["redis_message_id"])
            pipeline.publish(WAKE_CHANNEL, enqueued.queue_name)
            pipeline.execute()
        return enqueued

    def waiting(self, message_ids: Sequence[str]) -> dict[str, int]:
        """The messages of these with a job that waits for a worker, and since when (ms)."""
        if not message_ids:
            return {}
        scores = self.client.zmscore(WAITING, list(message_ids))
        return {
            name: int(score)
            for name, score in zip(message_ids, scores, strict=True)
            if score is not None
        }

    def held(self, message_ids: Sequence[str]) -> set[str]:
        """The messages of these whose newest job is still in the queue itself.

        This asks Redis for each job by id, so it is meant for rare doubts.
        """
        if not message_ids:
            return set()
        known = {
            name: job
            for name, job in zip(
                message_ids, self.client.hmget(JOBS, list(message_ids)), strict=True
            )
            if job is not None
        }
        with self.client.pipeline(transaction=False) as pipeline:
            for job in known.values():
                for queue in (QUEUE, dq_name(QUEUE)):
                    pipeline.hexists(f"{NAMESPACE}:{queue}.msgs", job)
            found = pipeline.execute()
        return {
            name
            for name, there in zip(known, zip(found[::2], found[1::2], strict=True), strict=True)
            if any(there)
        }

    def lead(self, name: str, milliseconds: int) -> bool:
        """Become, or stay, the active sweeper for this long. Returns whether this succeeded."""
        return bool(self._lead(keys=[LEADER], args=[name, milliseconds]))

    def start_waker(self) -> None:
        """Listen for wake-ups. Call it once per worker process."""
        self.waker = Waker(self.client)
        self.waker.start()

    def drain(self) -> None:
        """Fetch no more jobs. Consumers notice at once."""
        self.draining = True
        if self.waker is not None:
            self.waker.wake()

    def leave(self) -> None:
        """Shorten the waits of consumers, because no job runs any more.

        Dramatiq ends its consumers next, and each notices it only between two waits.
        """
        self.leaving = True
        if self.waker is not None:
            self.waker.wake()

    def close(self) -> None:
        """Stop listening and close the connections."""
        if self.waker is not None:
            self.waker.stop()
        super().close()


class WakingConsumer(_RedisConsumer):
    """Fetches when woken, and at least once per poll interval (which is also the heartbeat).

    If the reply to a fetch is lost, its jobs are neither in the queue nor with a worker, and no
    other worker gets them while this process lives. So a consumer puts such jobs back at its start,
    and after every lost connection.
    """

    def __init__(self, broker: WakingBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        # As above.
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._woken = broker.waker.register() if broker.waker else threading.Event()
        self._poll = DELAY_POLL_SECONDS if queue_name == dq_name(queue_name) else POLL_SECONDS
        self._losses = -1
        self.holding: set[str] = set()
        """Ids of the jobs that run in this process: neither acknowledged nor rejected."""

    def __next__(self) -> Any:
        """The next message, or None after a wait without one."""
        if not self.message_cache:
            # Cleared before the fetch: a later enqueue sets it again.
            self._woken.clear()
            self._fetch()
        if self.message_cache:
            message = super().__next__()  # type: ignore[no-untyped-call]  # as above
            if message is not None:
                self.holding.add(message.options["redis_message_id"])
            return message
        self._woken.wait(LAST_POLL_SECONDS if self.broker.leaving else self._poll)
        return None

    def _fetch(self) -> None:
        room = 0 if self.broker.draining else self.prefetch - self.outstanding_message_count
        try:
            self._put_back_lost()
            # A fetch of no jobs is still a heartbeat. Without it, other workers would take over the
            # jobs of this process. A fetch takes a few jobs only, so that other processes get some
            # when many arrive at once.
            self.message_cache = (
                self.broker.do_fetch(self.queue_name, min(room, FETCH_AT_MOST))
                if room > 0
                else self._heartbeat()
            )
        except (redis.ConnectionError, redis.TimeoutError) as error:
            # If this were raised, Dramatiq would restart the consumer after three seconds, and
            # forget its prefetched jobs.
            log_line.warning("queue unreachable", queue=self.queue_name, error=repr(error))
            self._woken.wait(self._poll)

    def _put_back_lost(self) -> None:
        losses = self.broker.losses
        if losses == self._losses:
            return
        lost = self.broker.delivered(self.queue_name) - self.holding
        if lost:
            log_line.warning(
                "jobs whose delivery was lost are queued again",
                queue=self.queue_name,
                jobs=len(lost),
            )
            self.broker.do_requeue(self.queue_name, *lost)
        self._losses = losses

    def _heartbeat(self) -> list[bytes]:
        self.broker.do_qsize(self.queue_name)
        return []

    def ack(self, message: Any) -> None:
        """Acknowledge. A full prefetch window has room again, so fetch at once."""
        self._answer(super().ack, message, [message])
        self._woken.set()

    def nack(self, message: Any) -> None:
        """Move the job to the dead letters."""
        self._answer(super().nack, message, [message])

    def requeue(self, messages: Any) -> None:
        """Put jobs back into the queue that have not begun."""
        given_back = list(messages)
        self._answer(super().requeue, given_back, given_back)

    def _answer(self, call: Callable[[Any], None], argument: Any, messages: Sequence[Any]) -> None:
        try:
            call(argument)
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise ConnectionClosed(
                error
            ) from None  # Dramatiq repeats the job, or leaves it to other workers when it ends
        self.holding.difference_update(message.options["redis_message_id"] for message in messages)


class Waker(threading.Thread):
    """Listens on one subscription per process, and sets the events of all registered consumers."""

    def __init__(self, client: "redis.Redis") -> None:
        super().__init__(name="waker", daemon=True)
        self._client = client
        self._events: list[threading.Event] = []
        self._running = True

    def register(self) -> threading.Event:
        """Register a consumer. Its event is set at every wake-up."""
        event = threading.Event()
        self._events.append(event)
        return event

    def run(self) -> None:
        """Listen until `stop` is called."""
        supervise_thread("waker", self._stay_awake)

    def _stay_awake(self) -> None:
        """Listen. After a lost connection, wake all consumers once and listen again."""
        while self._running:
            try:
                self._listen()
            except redis.RedisError as error:
                log_line.warning("wake-up channel lost, polling meanwhile", error=repr(error))
                time.sleep(POLL_SECONDS)
            self.wake()

    def _listen(self) -> None:
        with self._client.pubsub(ignore_subscribe_messages=False) as pubsub:
            pubsub.subscribe(WAKE_CHANNEL)
            while self._running:
                if pubsub.get_message(timeout=POLL_SECONDS) is not None:
                    self.wake()

    def wake(self) -> None:
        """Wake every consumer of this process."""
        for event in self._events:
            event.set()

    def stop(self) -> None:
        """Stop listening, within one poll interval."""
        self._running = False


class Taken(Middleware):
    """Unmarks a job as waiting when a thread begins it. From then on, its lease shows it."""

    def before_process_message(self, broker: Broker, message: Any) -> None:
        """Unmark the job. A failure costs no more than one useless check by the sweeper."""
        if isinstance(broker, WakingBroker) and message.args:
            with contextlib.suppress(redis.RedisError):
                broker.client.zrem(WAITING, message.args[0])
                broker.client.hdel(JOBS, message.args[0])


class PollPace(Middleware):
    """Limits how many jobs a process fetches, and makes its threads stop soon.

    A job that waits in one process could run in another. So a process fetches no more jobs than it
    has threads.
    """

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Set both on the worker itself: Dramatiq offers only environment variables for them."""
        worker.queue_prefetch = worker.worker_threads
        worker.worker_timeout = IDLE_POLL_MS
        if isinstance(broker, WakingBroker):
            broker.start_waker()


def make_broker(url: str, *, threads: int, middleware: Sequence[Middleware] = ()) -> WakingBroker:
    """The broker of worker processes, and of web processes, which only enqueue (no middleware)."""
    ordered: list[Middleware] = [
        PollPace(),
        Taken(),
        *middleware,
        # worker.retries decides about retries. Any other exception is a bug: the job goes to the
        # dead letters at once.
        Retries(max_retries=0),
    ]
    broker = WakingBroker(url, middleware=ordered, max_connections=threads + 50)
    broker.declare_queue(QUEUE)
    return broker
