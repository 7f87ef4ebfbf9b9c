"""`python -m tests.mutants [AREA or AREA/MUTANT ...] [--jobs J] [--list]`: plant each bug, run its
area's checks, report the result.

Exit code 1: a mutant survived or is stale, or checks fail without a mutant (then they prove
nothing).
"""

import argparse
import queue
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from tests.mutants.areas import areas
from tests.mutants.mutant import Area, Mutant, Stale
from tests.mutants.tree import CHECK_SECONDS, Tree

Verdict = Literal["caught", "survived", "stale", "sound", "unsound"]
"""`sound`, `unsound`: the checks pass, or fail, without a mutant."""
_FAILED_TEST = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one mutant (or of the checks alone), and the check that noticed it."""

    name: str
    verdict: Verdict
    seconds: float
    by: str = ""


def main() -> int:
    """Choose, run, report."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help="areas, or single mutants as area/name; all if none is given"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="copies of the project that are used side by side"
    )
    parser.add_argument("--list", action="store_true", help="only say what there is")
    wanted = parser.parse_args()
    chosen = [
        (area, mutant)
        for area in areas().values()
        for mutant in area.mutants
        if _chosen(area, mutant, wanted.names)
    ]
    if wanted.names and not chosen:
        parser.error("no such area or mutant")
    if wanted.list:
        _say("\n".join(f"{area.name}/{mutant.name}  {mutant.file}" for area, mutant in chosen))
        return 0
    return _report(Bench(wanted.jobs).run(chosen))


def _chosen(area: Area, mutant: Mutant, names: Sequence[str]) -> bool:
    return not names or area.name in names or f"{area.name}/{mutant.name}" in names


class Bench:
    """Several trees, and mutants that wait for one."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._trees: queue.Queue[Tree] = queue.Queue()
        self._speaking = threading.Lock()

    def run(self, chosen: Sequence[tuple[Area, Mutant]]) -> list[Outcome]:
        """Run the checks of each area alone first: only checks that pass without a mutant can catch
        one.
        """
        for _ in range(self._jobs):
            self._trees.put(Tree())
        pool = ThreadPoolExecutor(self._jobs)
        try:
            checks = sorted({area.checks_of(mutant) for area, mutant in chosen})
            alone = list(pool.map(self._alone, checks))
            sound = {
                check
                for check, outcome in zip(checks, alone, strict=True)
                if outcome.verdict == "sound"
            }
            ready = [(area, mutant) for area, mutant in chosen if area.checks_of(mutant) in sound]
            return alone + list(pool.map(self._with, ready))
        finally:
            pool.shutdown(cancel_futures=True)
            while not self._trees.empty():
                self._trees.get().remove()

    def _alone(self, checks: tuple[str, ...]) -> Outcome:
        return self._tried(" ".join(checks), checks, None)

    def _with(self, chosen: tuple[Area, Mutant]) -> Outcome:
        area, mutant = chosen
        return self._tried(f"{area.name}/{mutant.name}", area.checks_of(mutant), mutant)

    def _tried(self, name: str, checks: tuple[str, ...], mutant: Mutant | None) -> Outcome:
        tree = self._trees.get()
        began = time.monotonic()
        try:
            outcome = Outcome(name, *_verdict(tree, checks, mutant, began))
        finally:
            self._trees.put(tree)
        with self._speaking:
            _say(
                f"{outcome.verdict:9}{outcome.seconds:6.1f} s  "
                f"{outcome.name}  {outcome.by}".rstrip()
            )
        return outcome


def _verdict(
    tree: Tree, checks: tuple[str, ...], mutant: Mutant | None, began: float
) -> tuple[Verdict, float, str]:
    try:
        code, output = tree.check(checks, mutant)
    except Stale as reason:
        return "stale", time.monotonic() - began, str(reason)
    taken = time.monotonic() - began
    if mutant is None:
        return ("sound", taken, "") if code == 0 else ("unsound", taken, output[-2000:])
    if code == 0:
        return "survived", taken, ""
    noticed = _FAILED_TEST.search(output)
    return (
        "caught",
        taken,
        noticed[1]
        if noticed
        else f"hung for {CHECK_SECONDS:g} s"
        if code is None
        else output.strip()[-200:],
    )


def _report(outcomes: Sequence[Outcome]) -> int:
    counts = Counter(outcome.verdict for outcome in outcomes)
    told = counts["caught"] + counts["survived"] + counts["stale"]
    _say(
        f"{told} mutants: {counts['caught']} caught, {counts['survived']} survived, "
        f"{counts['stale']} stale"
    )
    bad = [outcome for outcome in outcomes if outcome.verdict in ("survived", "stale", "unsound")]
    for outcome in bad:
        _say(f"  {outcome.verdict}: {outcome.name}")
    return 1 if bad else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
