"""A cluster with the scripted provider, ready for faults: shared by the driver and the tests of
single outages.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import tools
from tests.chaos.catalogue import Model, models
from tests.chaos.cluster import Cluster
from tests.chaos.load import Load
from tests.chaos.provider import ScriptedProvider
from tests.chaos.report import calls, decisions, rows, steered
from tests.chaos.service import Service, entries
from tests.chaos.watching import Api

RUNS = "runs.txt"
"""In the folder of a run: what its tools wrote."""
QUIET_SECONDS = 3.0
"""After this long a second end would have been written."""
ANNOUNCED_SECONDS = 60.0
"""Far more than the sweeper takes to announce what is not, on a machine that does much else."""


@dataclass
class Site:
    """What runs."""

    cluster: Cluster
    provider: ScriptedProvider
    api: Api
    catalogue: dict[str, Model]

    def load(
        self,
        seed: int,
        readers: int,
        pieces: tuple[int, int],
        cancel_share: float = 0.1,
        *,
        only_continuing: bool = False,
    ) -> Load:
        """Streams that are not begun yet."""
        weights = {
            name: model.weight
            for name, model in self.catalogue.items()
            if model.continues or not only_continuing
        }
        return Load(
            self.api,
            self.provider,
            self.cluster.valkey.url,
            weights,
            seed,
            readers,
            pieces,
            cancel_share,
        )

    async def look(self, load: Load) -> None:
        """Read row and log of every stream, when all is quiet and every end is announced.

        At a start of Redis, and half a minute later, the sweeper marks recent changes as
        unannounced (worker/sweeper/repeats.py) until it has announced them again.
        """
        await asyncio.sleep(QUIET_SECONDS)
        posted = {stream.message_id for stream in load.streams if stream.message_id}
        patience = time.monotonic() + ANNOUNCED_SECONDS
        while True:
            found = await asyncio.to_thread(rows, self.cluster.database_url)
            if (
                all(found[name]["terminal_announced"] for name in posted & found.keys())
                or time.monotonic() > patience
            ):
                break
            await asyncio.sleep(0.2)
        called = await asyncio.to_thread(calls, self.cluster.database_url)
        decided = await asyncio.to_thread(decisions, self.cluster.database_url)
        taken = await asyncio.to_thread(steered, self.cluster.database_url)
        for stream in load.streams:
            if (remark := stream.remark) is not None:
                own = [row for row in found.values() if row["parent_id"] == remark.message_id]
                remark.row = own[0] if own else {}
                remark.steers = taken.get(remark.message_id)
                remark.reached = self.provider.rounds.remarks.get(remark.script.number, (None,))[0]
            stream.row = found.get(stream.message_id, {})
            stream.calls = [row for row in called if row["message_id"] == stream.message_id]
            stream.decisions = [row for row in decided if row["message_id"] == stream.message_id]
            await load.read_log(stream)


@contextlib.asynccontextmanager
async def running(
    folder: Path, database: str, workers: int, rate: float, seconds: float, **environ: str
) -> AsyncIterator[Site]:
    """Started, and stopped at the end. `rate`: pieces of text per second and stream; after
    `seconds` the API is not used any more.
    """
    provider = ScriptedProvider(rate, service=Service(folder / RUNS))
    await provider.start()
    catalogue = models(provider.base)
    environ = {"TOOLS": tools.__name__, tools.FILE_VARIABLE: str(folder / RUNS), **environ}
    cluster = Cluster(
        folder,
        database,
        workers,
        {name: model.entry for name, model in catalogue.items()},
        environ,
        entries(provider.base),
    )
    try:
        await cluster.start()
        async with Api(cluster.url, time.monotonic() + seconds) as api:
            yield Site(cluster, provider, api, catalogue)
    finally:
        await cluster.stop()
        await provider.aclose()
