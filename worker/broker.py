"""The Dramatiq broker: Redis, with a consumer that is woken instead of polling, and the middleware, listed once, in order.

Stock consumers sleep up to a second between polls. Here every enqueue also publishes on a wake-up channel; one thread per process
listens and wakes the consumers, which then fetch at once. The poll stays as a fallback: a lost wake-up costs its interval, no job.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
import structlog
from dramatiq import Broker, Message, Middleware, Worker
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer  # the consumer has no public name, and no public hook to wait in
from dramatiq.common import dq_name
from dramatiq.errors import ConnectionClosed
from dramatiq.middleware import Retries

log_line = structlog.get_logger(__name__)

QUEUE = "generations"
WAKE_CHANNEL = "tw:jobs"
POLL_SECONDS = 1.0
DELAY_POLL_SECONDS = 0.2
"""How often a delay queue looks whether something is due: the precision of a retry's delay."""
HEARTBEAT_TIMEOUT_MS = 15_000
IDLE_LOOK_MS = 400
"""How often an idle worker thread looks whether it should end."""


class WakingBroker(RedisBroker):
    """RedisBroker whose consumers wake up when something is enqueued. `draining`: fetch nothing new, keep the heartbeat."""

    def __init__(self, url: str, *, middleware: Sequence[Middleware], max_connections: int) -> None:
        client = redis.Redis.from_url(url, max_connections=max_connections, socket_keepalive=True, health_check_interval=30)
        super().__init__(  # type: ignore[no-untyped-call]  # dramatiq is typed in part
            client=client,
            middleware=list(middleware),
            # Every command looks for dead workers: by default one in a thousand does, which takes minutes on a quiet queue.
            maintenance_chance=1_000_000,
            heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        )
        self.draining = False
        self.waker: Waker | None = None

    @property
    def consumer_class(self) -> type["WakingConsumer"]:
        """What `consume` builds."""
        return WakingConsumer

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Enqueue, then wake the consumers of every worker process."""
        enqueued = super().enqueue(message, delay=delay)
        self.client.publish(WAKE_CHANNEL, enqueued.queue_name)
        return enqueued

    def start_waker(self) -> None:
        """Listen for wake-ups; called once in a worker process."""
        self.waker = Waker(self.client)
        self.waker.start()

    def drain(self) -> None:
        """Fetch nothing more; consumers notice at once."""
        self.draining = True
        if self.waker is not None:
            self.waker.wake()

    def close(self) -> None:
        """Stop listening and close the connections."""
        if self.waker is not None:
            self.waker.stop()
        super().close()


class WakingConsumer(_RedisConsumer):
    """Fetches when woken, and at least once per poll interval (which also is the heartbeat)."""

    def __init__(self, broker: WakingBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]  # as above
        self._woken = broker.waker.register() if broker.waker else threading.Event()
        self._poll = DELAY_POLL_SECONDS if queue_name == dq_name(queue_name) else POLL_SECONDS

    def __next__(self) -> Any:
        """The next message, or None after a wait."""
        if not self.message_cache:
            # Cleared before the fetch: whatever is enqueued from here on sets it again.
            self._woken.clear()
            self._fetch()
        if self.message_cache:
            return super().__next__()  # type: ignore[no-untyped-call]  # as above
        self._woken.wait(self._poll)
        return None

    def _fetch(self) -> None:
        room = 0 if self.broker.draining else self.prefetch - self.outstanding_message_count
        try:
            # A fetch of nothing is still a heartbeat; without it, other workers would take over what runs here.
            self.message_cache = self.broker.do_fetch(self.queue_name, max(room, 0)) if room > 0 else self._heartbeat()
        except redis.ConnectionError as error:
            raise ConnectionClosed(error) from None

    def _heartbeat(self) -> list[bytes]:
        self.broker.do_qsize(self.queue_name)
        return []

    def ack(self, message: Any) -> None:
        """Acknowledge; a full prefetch window has room again, so look at once."""
        super().ack(message)  # type: ignore[no-untyped-call]  # as above
        self._woken.set()


class Waker(threading.Thread):
    """One subscription per process; sets the event of every registered consumer."""

    def __init__(self, client: "redis.Redis") -> None:
        super().__init__(name="waker", daemon=True)
        self._client = client
        self._events: list[threading.Event] = []
        self._running = True

    def register(self) -> threading.Event:
        """An event that is set at every wake-up."""
        event = threading.Event()
        self._events.append(event)
        return event

    def run(self) -> None:
        """Listen until stopped; after a lost connection wake everybody once and listen again."""
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
        """End within one poll interval."""
        self._running = False


class Pace(Middleware):
    """Fetch no more than the threads can run (what waits in one process's memory could be running in another), and stop soon."""

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:
        """Set on the worker itself; dramatiq's own switch is an environment variable."""
        worker.queue_prefetch = worker.worker_threads
        worker.worker_timeout = IDLE_LOOK_MS
        if isinstance(broker, WakingBroker):
            broker.start_waker()


def make_broker(url: str, *, threads: int, middleware: Sequence[Middleware] = ()) -> WakingBroker:
    """The broker of web (no middleware of its own: it only enqueues) and worker processes."""
    ordered: list[Middleware] = [
        Pace(),
        *middleware,
        # Retries are decided by worker.retries; what still raises is a bug and goes to the dead letters at once.
        Retries(max_retries=0),
    ]
    broker = WakingBroker(url, middleware=ordered, max_connections=threads + 50)
    broker.declare_queue(QUEUE)
    return broker
