"""`python -m tests.chaos --kills 200 --seed 1`: real processes under random faults. Prints a table; not 0 if anything was lost,
repeated, or did not end exactly once."""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.chaos.cluster import Cluster
from tests.chaos.faults import OF_POSTGRES, WEIGHTS, Faults
from tests.chaos.load import Load
from tests.chaos.provider import ScriptedProvider
from tests.chaos.report import Report, rows
from tests.chaos.watching import Api

SETTLE_SECONDS = 90.0
"""What streams may need to end after the last fault."""


def models(base: str) -> dict[str, tuple[dict[str, Any], int, bool]]:
    """The catalogue: entry, weight, whether the provider can go on from what was said."""
    openai = {"provider": "openai_compatible", "api_key": "none"}
    return {
        "prefix": (
            {**openai, "base_url": f"{base}/prefix/v1", "continuation": "prefix", "options": {"prefix": "continue_final_message"}},
            6,
            True,
        ),
        "turn": ({**openai, "base_url": f"{base}/turn/v1", "continuation": "turn"}, 2, True),
        "over": ({**openai, "base_url": f"{base}/over/v1", "continuation": "restart"}, 3, False),
        "anthropic": ({"provider": "anthropic", "api_key": "none", "base_url": f"{base}/prefix/v1", "continuation": "prefix"}, 1, True),
        "ollama": ({"provider": "ollama", "base_url": f"{base}/prefix", "continuation": "prefix"}, 1, True),
        "gemini": ({"provider": "gemini", "api_key": "none", "base_url": f"{base}/turn/v1", "continuation": "turn"}, 1, True),
    }


async def run(options: argparse.Namespace, folder: Path) -> Report:
    deadline = time.monotonic() + options.minutes_at_most * 60
    provider = ScriptedProvider(options.rate)
    await provider.start()
    catalogue = models(provider.base)
    entries = {name: entry for name, (entry, _, _) in catalogue.items()}
    cluster = Cluster(folder, options.database, options.workers, entries, {})
    try:
        await cluster.start()
        async with Api(cluster.url, deadline + SETTLE_SECONDS) as api:
            weights = {name: weight for name, (_, weight, _) in catalogue.items()}
            load = Load(api, provider, cluster.valkey.url, weights, options.seed, options.viewers, (options.rate * 5, options.rate * 12))
            faults = Faults(cluster, load, random.Random(options.seed))
            await _play(options, load, faults, deadline)
            await _read(cluster, load)
    finally:
        await cluster.stop()
        await provider.aclose()
    report = Report(load.streams, faults.notes, {name: can for name, (_, _, can) in catalogue.items()}, provider.wrong)
    (folder / "story.log").write_text("\n".join(report.story()))
    return report


async def _play(options: argparse.Namespace, load: Load, faults: Faults, deadline: float) -> None:
    streaming = asyncio.create_task(load.run(options.streams))
    await asyncio.sleep(2)
    await faults.run(_kinds(options), options.kills, options.spacing, deadline)
    load.stopping = True
    done, _ = await asyncio.wait({streaming}, timeout=SETTLE_SECONDS)
    if not done:
        streaming.cancel()
        await asyncio.wait({streaming})
    else:
        streaming.result()


async def _read(cluster: Cluster, load: Load) -> None:
    """The last look, when all is quiet: a second end would have been written by now."""
    await asyncio.sleep(5)
    found = await asyncio.to_thread(rows, cluster.database_url)
    for stream in load.streams:
        stream.row = found.get(stream.message_id, {})
        await load.read_log(stream)


def _kinds(options: argparse.Namespace) -> list[str]:
    kinds = options.only.split(",") if options.only else list(WEIGHTS)
    if unknown := set(kinds) - set(WEIGHTS):
        raise SystemExit(f"no such fault: {', '.join(unknown)} (known: {', '.join(WEIGHTS)})")
    return [kind for kind in kinds if options.database == "postgresql" or kind not in OF_POSTGRES]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how many faults")
    parser.add_argument("--seed", type=int, default=1, help="decides texts, order of faults and times between them")
    parser.add_argument("--minutes-at-most", type=float, default=15)
    parser.add_argument("--only", default="", help="kinds of faults, separated by commas")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--streams", type=int, default=24, help="at a time")
    parser.add_argument("--viewers", type=int, default=4, help="of each stream")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rate", type=int, default=50, help="pieces of text a second, in each stream")
    parser.add_argument("--spacing", type=float, default=2.0, help="mean seconds between faults")
    parser.add_argument("--folder", type=Path, help="where databases and logs are left (default: a temporary one)")
    return parser


def main() -> int:
    options = arguments().parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="tokenwire-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    report = asyncio.run(run(options, folder))
    sys.stdout.write("\n".join([*report.lines(), ""]))
    if not report.good:
        sys.stderr.write(f"FAILED, seed {options.seed}; logs in {folder}\n")
    return 0 if report.good else 1


if __name__ == "__main__":
    sys.exit(main())
