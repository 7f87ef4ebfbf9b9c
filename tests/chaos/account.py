"""The report of a failing test: enough to find the reason from its output alone."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from redis.exceptions import RedisError

from tests.chaos.load import Load, Stream
from tests.chaos.report import rows
from tests.chaos.site import Site
from tokenwire.worker.broker import JOBS, LEADER, WAITING

LINES = 200
"""Of what each kind of process printed, the last so many."""


class Account:
    """Begin it with the test; `told` is everything that has happened since."""

    def __init__(self, site: Site) -> None:
        self._site, self._began, self._clock = site, time.monotonic(), datetime.now(UTC)
        self._refusals = len(site.api.refusals)
        self._printed = len(site.cluster.printed)
        self._written = {log: log.stat().st_size for log in self._logs()}

    async def told(self, load: Load, following: "Sequence[asyncio.Task[None]]") -> str:
        """As text. `following`: the task of each stream."""
        found = await asyncio.to_thread(self._rows)
        redis = await asyncio.to_thread(self._redis)
        return "\n".join(
            [
                *self._machine(),
                *self._streams(load, following, found),
                *redis,
                *self._requests(),
                *self._lines(),
            ]
        )

    def _at(self, moment: float | None) -> str:
        return (
            "-"
            if moment is None
            else f"{self._clock + timedelta(seconds=moment - self._began):%H:%M:%S.%f}"[:-3]
        )

    def _machine(self) -> Iterator[str]:
        load = " ".join(f"{average:.1f}" for average in os.getloadavg())
        yield (
            f"the test began at {self._at(self._began)} UTC and ended at "
            f"{self._at(time.monotonic())}; load average {load}"
        )
        yield (
            f"workers: {self._site.cluster.workers()}; Redis' port: "
            f"{self._site.cluster.redis_proxy.faults}"
        )

    def _streams(
        self,
        load: Load,
        following: "Sequence[asyncio.Task[None]]",
        found: dict[str, dict[str, Any]],
    ) -> Iterator[str]:
        for stream, task in zip(load.streams, following, strict=True):
            yield (
                f"text {stream.script.number} ({stream.model}), message "
                f"{stream.message_id or 'not posted'}: {_state(task)}"
            )
            yield f"  row: {_short(found.get(stream.message_id, found.get('')))}"
            yield from (f"  reader {line}" for line in self._readers(stream))
            for asked in self._site.provider.asked:
                if asked.number == stream.script.number:
                    ended = f"{self._at(asked.ended)}{' whole' if asked.whole else ''}"
                    yield (
                        f"  provider asked at {self._at(asked.began)} after "
                        f"{asked.prefix_chars} characters, ended {ended}"
                    )
        yield from (f"provider: {wrong}" for wrong in self._site.provider.wrong)

    def _readers(self, stream: Stream) -> Iterator[str]:
        for watcher in stream.watchers:
            first, end = min(watcher.first_chunks.values(), default=None), watcher.ended_at or None
            yield (
                f"{watcher.manner}: {len(watcher.text)} characters since {self._at(first)}, "
                f"{watcher.ended} at {self._at(end)}"
            )
            counts = (
                f"{watcher.connections} connections, {watcher.resyncs} resyncs, "
                f"{watcher.resets} resets"
            )
            yield f"{watcher.manner}: {counts}, fault: {watcher.fault}"

    def _requests(self) -> Iterator[str]:
        for at, said in self._site.api.refusals[self._refusals :]:
            yield f"{self._at(at)} not answered: {said}"

    def _rows(self) -> dict[str, dict[str, Any]]:
        """By message; under no name, why there are none."""
        try:
            return rows(self._site.cluster.database_url)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the rest is told
            return {"": {"unreadable": repr(error)}}

    def _redis(self) -> list[str]:
        try:
            with self._site.cluster.valkey.client() as client:
                return [
                    (
                        f"jobs that wait: {client.zrange(WAITING, 0, -1, withscores=True)}, "
                        f"{client.hgetall(JOBS)}"
                    ),
                    f"sweeper: {client.get(LEADER)!r} for {client.pttl(LEADER)} ms",
                ]
        except (RedisError, OSError) as error:
            return [f"Redis: {error!r}"]

    def _logs(self) -> list[Path]:
        return sorted(self._site.cluster.folder.glob("*.2.log"))

    def _lines(self) -> Iterator[str]:
        yield from ("--- launcher ---", *self._site.cluster.printed[self._printed :][-LINES:])
        for log in self._logs():
            with suppress(OSError), log.open(errors="replace") as written:
                written.seek(self._written.get(log, 0))
                yield from (f"--- {log.stem} ---", *written.read().splitlines()[-LINES:])


def _state(task: "asyncio.Task[None]") -> str:
    if not task.done():
        return "still followed"
    if task.cancelled():
        return "given up"
    return (
        "followed to its end"
        if task.exception() is None
        else f"following it failed: {task.exception()!r}"
    )


def _short(row: dict[str, Any] | None) -> dict[str, Any] | None:
    return row and {
        name: f"{len(value)} characters" if name == "content" else value
        for name, value in row.items()
    }
