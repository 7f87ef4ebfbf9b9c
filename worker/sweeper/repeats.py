"""After a restart or a failover of Redis: what the log may have lost is announced again.

A log that forks keeps its readers where they stood. What was in its lost end (rows, titles,
terminal events) must come once more, or they would wait for it for ever. Text comes from whoever
resumes the answer (`takeover`). Everything else that changed lately is taken for not announced, and
the sweeper announces it. The log itself knows what it still has, and takes nothing twice.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from tokenwire.models.store import Store
from tokenwire.models.sweeps import KINDS, Kind
from tokenwire.streams.log import ports

log_line = structlog.get_logger(__name__)
LATELY_MS = 15 * 60 * 1000
"""How long after a change it may be announced; how far a lost end reaches if no time is known."""
LONGEST_MS = 25 * 60 * 60 * 1000
"""What changed before that is not announced again: logs live for LOG_MAX_SECONDS, a day."""
NOTE_SECONDS = 60.0
"""How often the server is given the time: a replica or a snapshot knows by it how old it is."""
LATE_SECONDS = 30.0
"""When everything is done a second time: a worker may note only now what the lost server took."""
PAGE = 500
"""Rows that are looked at, and changed, in one transaction."""
LockedRows = list[tuple[Kind, str]]
"""Rows that somebody has locked: whatever the lock is for, nobody waits for it."""


class Repeats:
    """One per sweeper; only the leader's is asked."""

    def __init__(self, store: Store, log: ports.Log) -> None:
        self._store, self._log = store, log
        self._server: str | None = None
        self._since = 0.0
        self._noted: float | None = None
        self._left: LockedRows | None = None
        """What the second time has left out; None before it."""

    async def check_server(self, go_on: Callable[[], Awaitable[None]]) -> None:
        """Ask whether Redis is another server, and act. Raises LogUnavailable, StoreUnavailable.

        `go_on` is asked before each page. What it raises ends this check; the next begins anew.
        """
        server = await self._log.new_server()
        now = asyncio.get_running_loop().time()
        if server is None:
            if self._noted is None or now - self._noted > NOTE_SECONDS:
                await self._log.note_time(await self._store.now_ms())
                self._noted = now
            return
        if server != self._server:
            log_line.info(
                "Redis was started, or is another server: what changed lately is announced again"
            )
            await self._announce_again(go_on)
            self._server, self._since, self._left = server, now, None
        elif self._left is None and now - self._since > LATE_SECONDS:
            self._left = await self._announce_again(go_on)
        if self._left is not None:
            self._left = [
                (kind, name)
                for kind, name in self._left
                if await self._store.announce_again(kind, [name])
            ]
            if not self._left:
                await self._log.note_server(server)

    async def _announce_again(self, go_on: Callable[[], Awaitable[None]]) -> LockedRows:
        since = await self._lost_since()
        left: LockedRows = []
        for kind in KINDS:
            page = await self._store.changed_lately(kind, since, None, PAGE)
            while page:
                left += [
                    (kind, name)
                    for name in await self._store.announce_again(kind, [place.id for place in page])
                ]
                await go_on()
                page = (
                    await self._store.changed_lately(kind, since, page[-1], PAGE)
                    if len(page) == PAGE
                    else []
                )
        return left

    async def _lost_since(self) -> int:
        """Since when announcements may be in the lost end of a log, by the database's clock."""
        now = await self._store.now_ms()
        known = await self._log.noted_time()
        return max(min(now, now if known is None else known) - LATELY_MS, now - LONGEST_MS)
