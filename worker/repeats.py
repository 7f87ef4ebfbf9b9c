"""After a restart or a failover of Redis: announcements that SQL takes for done and the log may have lost are made again.

A log that forks keeps its readers where they stood. What was in the lost end of it (rows, titles, terminal events) must come once more,
or they would wait for it for ever. Text comes from whoever goes on with the answer (`takeover`). Everything that changed lately is
announced again by the sweeper; the log itself knows what it still has, and takes nothing twice.
"""

import asyncio

import structlog

from models.store import Store
from streams import ports

log_line = structlog.get_logger(__name__)
LATELY_MS = 15 * 60 * 1000
"""How far the lost end of a log may reach back, and an announcement be later than the change that it tells of."""
LATE_SECONDS = 30.0
"""A worker that was told "appended" by the lost server may note that in SQL only now: so everything is done a second time after this."""


class Repeats:
    """One per sweeper; only the leader's is asked."""

    def __init__(self, store: Store, log: ports.Log) -> None:
        self._store, self._log = store, log
        self._server: str | None = None
        self._since = 0.0

    async def look(self) -> None:
        """Ask whether Redis is another server. Raises Unavailable, StoreUnavailable."""
        server = await self._log.new_server()
        if server is None:
            return
        now = asyncio.get_running_loop().time()
        if server != self._server:
            log_line.warning("another Redis server: what changed lately is announced again")
            await self._store.announce_again(LATELY_MS)
            self._server, self._since = server, now
        elif now - self._since > LATE_SECONDS:
            await self._store.announce_again(LATELY_MS)
            await self._log.note_server(server)
