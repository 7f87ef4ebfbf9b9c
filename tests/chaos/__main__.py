"""`python -m tests.chaos --kills 200 --seed 1`: real processes under random faults.

Prints a table; the exit code is not 0 if anything was lost, repeated, or did not end exactly once.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.faults import AIMED, OF_DISKS, OF_POSTGRES, WEIGHTS, Faults
from tests.chaos.load import Load
from tests.chaos.people import mixed
from tests.chaos.report import Report
from tests.chaos.rounds import DENSE
from tests.chaos.service import PAUSE_SECONDS
from tests.chaos.site import RUNS, running
from tests.chaos.tools import SECONDS_VARIABLE, keys_in, runs_in

REMARK_SHARE = 0.3
"""Of the answers with rounds, so many get a message while they run."""
SETTLE_SECONDS = 90.0
"""What streams may need to end after the last fault."""


async def run(options: argparse.Namespace, folder: Path) -> Report:
    """The whole run."""
    seconds = options.minutes_at_most * 60
    environ = {SECONDS_VARIABLE: str(PAUSE_SECONDS)} if options.rounds else {}
    async with running(
        folder, options.database, options.workers, options.rate, seconds + SETTLE_SECONDS, **environ
    ) as site:
        # Every reader of a rolling restart sees all of it.
        seconds_each = (60, 70) if options.rolling else (1, 2) if options.rounds else (5, 12)
        pieces = (options.rate * seconds_each[0], options.rate * seconds_each[1])
        load = site.load(
            options.seed,
            options.readers,
            pieces,
            0.0 if options.rolling or options.rounds else 0.1,
            only_continuing=options.rolling,
        )
        if options.rolling:
            load.manners = (
                "steady",
                "events",
            )  # silences of their own would hide those of the restart
        faults = Faults(site.cluster, load, random.Random(options.seed))
        if options.rounds:
            load.models, load.offers, load.remark_share = {"rounds": 1}, mixed, REMARK_SHARE
            faults.aims = {name for each in DENSE for name in each}
        await _play(options, load, faults, time.monotonic() + seconds)
        await site.look(load)
    continues = {name: model.continues for name, model in site.catalogue.items()}
    besides = [
        *(f"provider: {wrong}" for wrong in site.provider.wrong),
        *(f"fault {failed}" for failed in faults.failed),
    ]
    ran, keys = runs_in(folder / RUNS), keys_in(folder / RUNS)
    report = Report(load.streams, faults.notes, continues, besides, load.handovers(), ran, keys)
    (folder / "story.log").write_text("\n".join(report.story()))
    return report


async def _play(options: argparse.Namespace, load: Load, faults: Faults, deadline: float) -> None:
    streaming = asyncio.create_task(load.run(options.streams))
    try:
        await asyncio.sleep(2)
        if options.rolling:
            await faults.roll(options.workers)
        else:
            await faults.run(
                _possible(_kinds(options), faults), options.kills, options.spacing, deadline
            )
        load.stopping = True
        await asyncio.wait({streaming}, timeout=SETTLE_SECONDS)
        if streaming.done():
            streaming.result()
    finally:
        streaming.cancel()
        await asyncio.wait({streaming})


def _possible(kinds: list[str], faults: Faults) -> list[str]:
    disks = {f"fill-{name}" for name in faults.cluster.disks}
    missing = [kind for kind in kinds if kind in OF_DISKS and kind not in disks]
    if missing:
        sys.stderr.write(f"not possible here (no disk can be mounted): {', '.join(missing)}\n")
    return [kind for kind in kinds if kind not in missing]


def _kinds(options: argparse.Namespace) -> list[str]:
    without = AIMED if options.rounds else list(WEIGHTS)
    kinds, known = options.only.split(",") if options.only else [*without], {*WEIGHTS, *AIMED}
    if unknown := set(kinds) - known:
        raise SystemExit(f"no such fault: {', '.join(unknown)} (known: {', '.join(sorted(known))})")
    return [kind for kind in kinds if options.database == "postgresql" or kind not in OF_POSTGRES]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="how many faults")
    parser.add_argument(
        "--seed", type=int, default=1, help="decides texts, order of faults and times between them"
    )
    parser.add_argument("--minutes-at-most", type=float, default=15)
    parser.add_argument("--only", default="", help="kinds of faults, separated by commas")
    parser.add_argument(
        "--rolling",
        action="store_true",
        help="instead: SIGTERM to every process in turn, as a deploy does",
    )
    parser.add_argument(
        "--rounds",
        action="store_true",
        help="instead: short answers with many calls, and workers killed at each point of a call",
    )
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--streams", type=int, default=24, help="at a time")
    parser.add_argument("--readers", type=int, default=4, help="of each stream")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--rate", type=int, default=50, help="pieces of text a second, in each stream"
    )
    parser.add_argument("--spacing", type=float, default=2.0, help="mean seconds between faults")
    parser.add_argument(
        "--folder", type=Path, help="where databases and logs are left (default: a temporary one)"
    )
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
