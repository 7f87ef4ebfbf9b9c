"""`python -m tests.simulation --seed S --n N [--jobs J]`: run the schedules S, S+1, ...; exit code
1 if any of them failed.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.schedule import Outcome, run

SHOWN = 3
"""Failures that are told in full."""


def main() -> int:
    """Run, report, give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="first seed")
    parser.add_argument("--n", type=int, default=200, help="how many schedules")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--tail", type=int, default=80, help="lines of trace shown of a failure")
    wanted = parser.parse_args()
    began, failed, facts, seconds = time.perf_counter(), list[int](), Counter[str](), 0.0
    for outcome in _outcomes(range(wanted.seed, wanted.seed + wanted.n), wanted.jobs, wanted.tail):
        facts.update(outcome.facts)
        seconds += outcome.seconds
        if outcome.complaints:
            failed.append(outcome.seed)
            if len(failed) <= SHOWN:
                _say(report(outcome))
        if wanted.n == 1:
            _say(f"seed {outcome.seed}: trace {outcome.digest}, {outcome.turns} turns")
    told = ", ".join(f"{count} {name}" for name, count in sorted(facts.items()))
    _say(
        f"{wanted.n} schedules, {seconds:.0f} virtual seconds in "
        f"{time.perf_counter() - began:.1f} s: {told}; {len(failed)} failed"
    )
    if failed:
        _say(f"failing seeds: {failed[:50]}")
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _outcomes(seeds: range, jobs: int, tail: int) -> Iterator[Outcome]:
    if jobs <= 1 or len(seeds) < 8:
        for seed in seeds:
            yield run(seed, tail=tail)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_one, seeds, [tail] * len(seeds), chunksize=8)


def _one(seed: int, tail: int) -> Outcome:
    return run(seed, tail=tail)


def report(outcome: Outcome) -> str:
    """A failed schedule for a reader: what was wrong, what led there, how to see it again."""
    lines = [
        f"--- seed {outcome.seed} failed, trace {outcome.digest}",
        *outcome.tail,
        "",
        *(f"  {c}" for c in outcome.complaints[:10]),
    ]
    return "\n".join([*lines, f"replay: make simulate SEED={outcome.seed} N=1", ""])


if __name__ == "__main__":
    sys.exit(main())
