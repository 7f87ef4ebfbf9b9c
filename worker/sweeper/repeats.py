"""Announces again what the log may have lost in a restart or a failover of Redis.

Readers of a log that forks keep their cursors. Rows, titles and terminal events in its lost end
must be announced again, or readers would wait for them for ever. Text is appended again by the
process that resumes the answer (`takeover`). Everything else that changed lately is marked as not
announced, and the sweeper announces it. The log knows what it still has, and stores nothing twice.
"""

from collections.abc import Awaitable, Callable

import structlog

from tokenwire.config.clock import clock
from tokenwire.models.store import Store
from tokenwire.models.sweeps import KINDS, Kind
from tokenwire.streams.log import ports

log_line = structlog.get_logger(__name__)
LATELY_MS = 15 * 60 * 1000
"""The longest time from a change to its announcement. How far back to go if no time is known."""
LONGEST_MS = 25 * 60 * 60 * 1000
"""Older changes are never announced again: logs live for LOG_MAX_SECONDS, a day."""
NOTE_SECONDS = 60.0
"""How often the time is stored on the server. It shows the age of a replica or a snapshot."""
LATE_SECONDS = 30.0
"""The pause before the second pass. It catches workers that note late what the lost server took."""
REPEAT_PAGE = 500
"""Rows that are read and changed in one transaction."""
LockedRows = list[tuple[Kind, str]]
"""Locked rows. They are tried again later, without waiting for the lock."""


class Repeats:
    """Checks for another server. Only the leading sweeper calls it."""

    def __init__(self, store: Store, log: ports.Log) -> None:
        self._store, self._log = store, log
        self._server: str | None = None
        self._since = 0.0
        self._noted: float | None = None
        self._left: LockedRows | None = None
        """Rows that the second pass has left out. None before that pass."""

    async def check_server(self, go_on: Callable[[], Awaitable[None]]) -> None:
        """Announce again if Redis is another server. Raises LogUnavailable, StoreUnavailable.

        `go_on` is called before each page. If it raises, this check ends, and the next one starts
        over.
        """
        server = await self._log.new_server()
        now = clock()
        if server is None:
            if self._noted is None or now - self._noted > NOTE_SECONDS:
                await self._log.note_time(await self._store.now_ms())
                self._noted = now
            return
        if server != self._server:
            log_line.info("Redis was restarted or replaced: recent changes are announced again")
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
            page = await self._store.changed_lately(kind, since, None, REPEAT_PAGE)
            while page:
                left += [
                    (kind, name)
                    for name in await self._store.announce_again(kind, [place.id for place in page])
                ]
                await go_on()
                page = (
                    await self._store.changed_lately(kind, since, page[-1], REPEAT_PAGE)
                    if len(page) == REPEAT_PAGE
                    else []
                )
        return left

    async def _lost_since(self) -> int:
        """The time from which announcements may be lost, in ms by the database's clock."""
        now = await self._store.now_ms()
        known = await self._log.noted_time()
        return max(min(now, now if known is None else known) - LATELY_MS, now - LONGEST_MS)
