"""What one worker process holds: connections, running attempts, the way from a message id to an attempt, and the way out.

It lives on the event loop that Dramatiq's worker threads share; `RuntimeMiddleware` opens, drains and closes it with the worker.
"""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any

import structlog
import uvloop
from dramatiq import Broker, Worker
from dramatiq.asyncio import EventLoopThread, get_event_loop_thread, set_event_loop_thread
from dramatiq.middleware import AsyncIO

from config.catalogue import Catalogue, ModelSpec
from config.parent import die_with_parent
from config.settings import Settings
from models.errors import StoreUnavailable
from models.store import Store
from models.tables import Message as Row
from providers.base import Continuation, InvalidRequest, ModelNotFound, Provider, Request
from providers.http import HttpClient
from providers.registry import open_provider
from streams import events, ports
from streams.log import RedisLog
from streams.text import utf16_length
from worker import closing, context
from worker.broker import WakingBroker
from worker.checkpoints import Checkpointer
from worker.continuation import Held, Plan, plan
from worker.enqueue import Jobs, JobsUnavailable
from worker.generation import Generation
from worker.run import Attempt, Failed, HandedOver, Services, Terms
from worker.takeover import recover

log_line = structlog.get_logger(__name__)

INTERRUPT_CHECK_SECONDS = 5.0
"""How often a blocked worker thread looks for Dramatiq's interrupts; at 0.1 s, hundreds of threads would cost a core."""
OUTAGE_PAUSE_SECONDS = 1.0


class Runtime:
    """One per worker process."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._running: dict[str, Attempt] = {}
        self._draining = False
        self._emptied = asyncio.Event()

    async def open(self, broker: WakingBroker) -> None:
        """Connect; called on the event loop before the first job."""
        settings = self._settings
        self._store = Store.open(settings.database_url)
        limits = ports.Limits(settings.log_max_events, settings.log_max_bytes, settings.log_max_seconds)
        self._log = RedisLog(settings.redis, limits, settings.coalesce_ms)
        self._jobs = Jobs(settings.redis, broker)
        self._client = HttpClient()
        self._checkpointer = Checkpointer(self._store, self._running.values, settings.checkpoint_seconds, settings.checkpoint_chars)
        self._services = Services(self._store, self._log, self._jobs, self._checkpointer, settings.lease_seconds)
        self._saving = asyncio.create_task(self._checkpointer.run())

    async def generate(self, message_id: str) -> None:
        """The job: run one attempt, or find that there is nothing to do. While Redis or the database is away, wait for it."""
        while True:
            try:
                await self._generate(message_id)
            except (StoreUnavailable, ports.Unavailable, JobsUnavailable) as error:
                log_line.warning("job waits for a service", message_id=message_id, error=repr(error))
                if self._draining:
                    raise  # unacknowledged, so that another worker gets it
                await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
            else:
                return

    async def _generate(self, message_id: str) -> None:
        row = await self._store.message(message_id)
        if row is None or not closing.unfinished(row) or await self._not_yet(row):
            return
        if row.cancel_by is not None:
            await closing.cancel(self._store, self._log, self._jobs, message_id, row.cancel_by)
            return
        try:
            claim = await self._log.claim(row.conversation_id, message_id, row.attempt, self._settings.lease_seconds)
        except ports.Refused as refusal:
            # Busy: another worker runs it. Sealed, Gone: it has ended. This delivery is not needed.
            log_line.info("job not needed", message_id=message_id, reason=type(refusal).__name__)
            return
        mine = await self._store.begin_attempt(message_id, claim.attempt, row.model or self._catalogue.default)
        if mine is None:
            await self._log.release(claim)
            return
        await self._attempt(mine, claim)

    async def _not_yet(self, row: Row) -> bool:
        """Draining, not due, or behind another answer of the conversation: someone brings the job again."""
        if self._draining:
            await self._jobs.generate(row.id)
            return True
        if row.due_at is not None and (wait_ms := row.due_at - await self._store.now_ms()) > 0:
            await self._jobs.generate(row.id, wait_ms)
            return True
        return await self._store.blocked_by(row.id) is not None

    async def _attempt(self, row: Row, claim: ports.Claim) -> None:
        held = await recover(self._log, row, claim.epoch)
        spec = self._catalogue.models.get(row.model or self._catalogue.default)
        best = spec.continuation if spec else "none"
        chosen = plan(best, held)
        attempt = Attempt(
            self._services,
            row,
            claim,
            _generation(row, claim, held, chosen),
            Terms(spec.stall_seconds or self._settings.stall_seconds if spec else 0.0, best in ("attach", "prefix", "turn")),
        )
        self._running[row.id] = attempt
        try:
            if spec is None:
                await attempt.give_up(Failed(ModelNotFound(f"{row.model} is not in the catalogue")))
            else:
                request = await self._request(row, held, chosen)
                await attempt.run(self._provider(spec), request, spec.name)
        finally:
            del self._running[row.id]
            if not self._running:
                self._emptied.set()

    def _provider(self, spec: ModelSpec) -> Provider:
        return open_provider(spec, self._client)

    async def _request(self, row: Row, held: Held, chosen: Plan) -> Request:
        conversation = await self._store.conversation_of(row.id)
        rows = await self._store.history(row.conversation_id, row.ordinal)
        messages = context.messages(rows, conversation.instructions if conversation else None)
        if not messages:
            raise InvalidRequest("nothing to answer")
        going_on = None
        if chosen.rung in ("attach", "prefix", "turn"):
            going_on = Continuation(chosen.rung, held.text)
        return Request(messages, continuation=going_on)

    async def drain(self) -> None:
        """Take nothing new; let what runs go on for a while, then hand it to another worker."""
        self._draining = True
        if not await self._empty_within(self._settings.drain_seconds):
            for attempt in list(self._running.values()):
                attempt.stop(HandedOver())
            await self._empty_within(self._settings.lease_seconds)

    async def _empty_within(self, seconds: float) -> bool:
        self._emptied.clear()
        if not self._running:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._emptied.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Close what `open` opened."""
        self._saving.cancel()
        await asyncio.gather(self._saving, return_exceptions=True)
        await self._client.aclose()
        await self._log.aclose()
        await self._store.aclose()


def _generation(row: Row, claim: ports.Claim, held: Held, chosen: Plan) -> Generation:
    """The attempt's state: what is kept stays, a seam is noted; what is not is withdrawn by a `reset`."""
    seams = list(row.seams or ())
    if chosen.keeps:
        if held.text:
            seams.append(utf16_length(held.text))
        return Generation(row.id, claim.attempt, held, seams)
    generation = Generation(row.id, claim.attempt, Held(seq=held.seq))
    if chosen.rung != "fresh":
        generation.add(events.Reset(row.id, claim.attempt, keep=0, keep_reasoning=0))
    return generation


class RuntimeMiddleware(AsyncIO):
    """Dramatiq's event loop thread, on uvloop, with the runtime on it."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime

    def after_process_boot(self, broker: Broker) -> None:  # noqa: ARG002  # dramatiq's signature
        """Dramatiq's master may be killed: the process that it forked must not outlive it."""
        if threading.current_thread() is threading.main_thread():
            die_with_parent(os.getppid())

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002  # dramatiq's signature
        """Start the loop and open the runtime."""
        thread = EventLoopThread(self.logger, INTERRUPT_CHECK_SECONDS)
        thread.loop.close()
        thread.loop = uvloop.new_event_loop()
        thread.start(timeout=5.0)
        set_event_loop_thread(thread)
        if not isinstance(broker, WakingBroker):
            raise TypeError("the runtime needs worker.broker.make_broker")
        thread.run_coroutine(self._runtime.open(broker))

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002  # dramatiq's signature
        """Fetch nothing more, then drain."""
        if isinstance(broker, WakingBroker):
            broker.draining = True
        self._run(self._runtime.drain())

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        """Close the runtime, stop the loop."""
        self._run(self._runtime.close())
        super().after_worker_shutdown(broker, worker)  # type: ignore[no-untyped-call]  # dramatiq is typed in part

    def _run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        thread = get_event_loop_thread()
        if thread is not None:
            thread.run_coroutine(coroutine)
