"""The moments in the life of a call at which a worker may die, and the process that is there.

| point | the worker |
|---|---|
| `approved` | has read the arguments of a call that a person approved: it claims the call now |
| `began` | has begun the tool |
| `ended` | has the end of the tool, and has stored nothing |
| `stored` | has stored the result |
| `asked` | has asked the model again |

What happens is seen in the lines of the tools, in SQL and in the requests to the provider alone. A
moment is some milliseconds old when it is seen. Its worker then waits for something (the tool, the
database, the model), so a kill falls close behind it.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from tests.chaos.cluster import Cluster, ports_of
from tests.chaos.load import Load
from tests.chaos.report import state_of
from tests.chaos.tools import Line

POINTS = ("approved", "began", "ended", "stored", "asked")
PATIENCE_SECONDS = 5.0
CHECK_SECONDS = 0.003
SPREAD_SECONDS = 0.02
"""A worker that is to die behind an approval or a stored result dies within this time."""
_WORDS = {"approved": "read", "began": "begin", "ended": "end", "stored": "end"}


class Moments:
    """Of one run. `names`: of the tools that count."""

    def __init__(self, cluster: Cluster, load: Load, file: Path, names: Collection[str]) -> None:
        self._cluster, self._load, self._file, self._names = cluster, load, file, names
        self._until = time.monotonic() + PATIENCE_SECONDS

    async def next(self, point: str) -> int | None:
        """The process at the next such moment; None if none comes soon."""
        if point == "asked":
            return await self._asked()
        async for line in self._lines():
            if line.word == _WORDS[point] and self._fits(point, line):
                pid = line.pid if line.pid > 0 else await self._process_at(-line.pid)
                if pid is not None and (point != "stored" or await self._stored(line.key)):
                    if point in ("approved", "stored"):
                        await asyncio.sleep(random.uniform(0, SPREAD_SECONDS))
                    return pid
        return None

    def _fits(self, point: str, line: Line) -> bool:
        if point == "approved":
            return line.place in self._load.approved
        return line.name in self._names

    async def _lines(self) -> AsyncIterator[Line]:
        """What the tools write from now on."""
        self._file.touch()
        with self._file.open() as file:
            file.seek(0, os.SEEK_END)
            while time.monotonic() < self._until:
                if text := file.readline():
                    yield Line.parsed(text)
                else:
                    await asyncio.sleep(CHECK_SECONDS)

    async def _stored(self, key: str) -> bool:
        while time.monotonic() < self._until:
            state = await asyncio.to_thread(state_of, self._cluster.database_url, key)
            if state != "running":
                return state == "done"
        return False

    async def _asked(self) -> int | None:
        asked = self._load.provider.asked
        seen = len(asked)
        while time.monotonic() < self._until:
            for request in asked[seen:]:
                if request.again and (pid := await self._process_at(request.peer_port)):
                    return pid
            seen = len(asked)
            await asyncio.sleep(CHECK_SECONDS)
        return None

    async def _process_at(self, port: int) -> int | None:
        """The worker that has a connection from this port to the provider, or to the tools."""
        workers = await asyncio.to_thread(self._cluster.workers)
        server = self._load.provider.port
        return next((pid for pid in workers if port in ports_of(pid, server)), None)
