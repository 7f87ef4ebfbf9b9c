"""Whether this process's services work, for `/readyz`.

It proves a write to both services: a full disk, a Redis at `maxmemory` or unable to save, and a
demoted replica answer every read while every post is refused. It answers in time whatever hangs,
and costs one write at a time, however often it is called.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from tokenwire.config.clock import clock
from tokenwire.models.errors import StoreError
from tokenwire.models.store import Store
from tokenwire.streams.log import ports
from tokenwire.worker.needs import Need, needs

log_line = structlog.get_logger(__name__)

CHECK_TIMEOUT_SECONDS = 1.5
"""A slower service is not ready: load balancers' probes give up after 2 s or more."""
FRESH_SECONDS = 1.0
"""A service that was ready this recently is not checked again: anybody may call this."""


class Readiness:
    """The services of this process. Belongs to one event loop."""

    def __init__(self, store: Store, log: ports.Log) -> None:
        self._parts = {
            name: _ServiceCheck(partial(_need, store, log, name)) for name in needs(store, log)
        }

    async def checks(self) -> dict[str, str]:
        """`ok`, or the reason, for each service."""
        found = await asyncio.gather(*(part.judged() for part in self._parts.values()))
        return dict(zip(self._parts, found, strict=True))


def _need(store: Store, log: ports.Log, name: str) -> Need:
    return needs(store, log)[name]


class _ServiceCheck:
    """One service. A hanging check continues alone, and later callers share it, so that they do not
    pile up.
    """

    def __init__(self, need: Callable[[], Need]) -> None:
        self._need = need
        self._running: asyncio.Task[str] | None = None
        self._ok_at = -FRESH_SECONDS

    async def judged(self) -> str:
        now = clock()
        if now - self._ok_at < FRESH_SECONDS:
            return "ok"
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._judge())
        # Not cancelled after the time limit: its cancellation may hang, too.
        done, _ = await asyncio.wait({self._running}, timeout=CHECK_TIMEOUT_SECONDS)
        return self._running.result() if done else "does not answer"

    async def _judge(self) -> str:
        try:
            found = await _problem_of(self._need())
        except (StoreError, ports.LogError):
            return "does not answer"
        except Exception:  # a missing right, for example: this process cannot serve
            log_line.exception("the readiness check failed")
            return "cannot be checked"
        if found is None:
            self._ok_at = clock()
        return found or "ok"


async def _problem_of(need: Need) -> str | None:
    if (wrong := await need.answers()) is not None:
        return wrong
    try:
        return await need.writes()
    except (StoreError, ports.LogError):
        return "cannot write"
