"""Whether what this process needs can serve, asked by `/readyz`.

It proves a write to both services: a full disk, a Redis that has reached `maxmemory` or cannot save, a demoted replica answer every read
while every post is refused. It answers in time whatever hangs, and costs one write at a time, however often it is asked.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from tokenwire.models.errors import StoreError
from tokenwire.models.store import Store
from tokenwire.streams.log import ports
from tokenwire.worker.needs import Need, needs

log_line = structlog.get_logger(__name__)

PATIENCE_SECONDS = 1.5
"""A service that answers later than this is not ready: probes of load balancers give up after 2 s or more."""
FRESH_SECONDS = 1.0
"""A service that was ready so short a time ago is not asked again: anybody may ask for readiness."""


class Readiness:
    """What this process needs, and whether it can serve. Belongs to one event loop."""

    def __init__(self, store: Store, log: ports.Log) -> None:
        self._parts = {name: _Part(partial(_need, store, log, name)) for name in needs(store, log)}

    async def checks(self) -> dict[str, str]:
        """`ok`, or what is wrong, for each service."""
        found = await asyncio.gather(*(part.judged() for part in self._parts.values()))
        return dict(zip(self._parts, found, strict=True))


def _need(store: Store, log: ports.Log, name: str) -> Need:
    return needs(store, log)[name]


class _Part:
    """One service. A check that hangs goes on alone: whoever asks meanwhile waits for the same one, so that no heap of them grows."""

    def __init__(self, need: Callable[[], Need]) -> None:
        self._need = need
        self._running: asyncio.Task[str] | None = None
        self._ok_at = -FRESH_SECONDS

    async def judged(self) -> str:
        now = asyncio.get_running_loop().time()
        if now - self._ok_at < FRESH_SECONDS:
            return "ok"
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._judge())
        # Not cancelled when it takes too long: what hangs may hang in its cancellation, too.
        done, _ = await asyncio.wait({self._running}, timeout=PATIENCE_SECONDS)
        return self._running.result() if done else "does not answer"

    async def _judge(self) -> str:
        try:
            found = await _wrong(self._need())
        except (StoreError, ports.LogError):
            return "does not answer"
        except (
            Exception
        ):  # such as a right that is missing: whatever it is, this process cannot serve
            log_line.exception("readiness cannot be found out")
            return "cannot be checked"
        if found is None:
            self._ok_at = asyncio.get_running_loop().time()
        return found or "ok"


async def _wrong(need: Need) -> str | None:
    if (wrong := await need.answers()) is not None:
        return wrong
    try:
        return await need.writes()
    except (StoreError, ports.LogError):
        return "cannot write"
