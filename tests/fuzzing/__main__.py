"""Damage recorded answers a given number of times, and report violated properties."""

import argparse
import sys
import time
from random import Random

from tests.fuzzing.checks import Broken, check
from tests.fuzzing.mutations import HEADERS, damaged, pieces
from tests.unit.providers.recordings import Recording, known, own

MAX_BODY_BYTES = 12_000
STATUSES = (200, 200, 200, 200, 200, 200, 400, 401, 403, 404, 413, 422, 429, 500, 503, 529)


def run(
    recordings: list[Recording], seed: int, count: int, most_reports: int = 20
) -> tuple[int, int, list[str]]:
    """The number of mutations, the number of complete answers among them, and the violations. Each
    can be repeated by its number.
    """
    reports: list[str] = []
    whole = 0
    for number in range(count):
        try:
            whole += once(recordings, seed, number)
        except Broken as broken:
            reports.append(f"{seed}/{number}: {describe(recordings, seed, number)}: {broken}")
            if len(reports) >= most_reports:
                return number + 1, whole, reports
    return count, whole, reports


def once(recordings: list[Recording], seed: int, number: int) -> bool:
    """One mutation. Raises Broken."""
    chance, recording, body, _ = _made(recordings, seed, number)
    status = recording.status if recording.status != 200 else chance.choice(STATUSES)
    headers = {**recording.headers, **dict(chance.sample(HEADERS, chance.randrange(3)))}
    return check(recording.api, status, headers, body, pieces(chance, body))


def describe(recordings: list[Recording], seed: int, number: int) -> str:
    """Which recording, damaged how."""
    _, recording, _, names = _made(recordings, seed, number)
    return f"{recording.name} {'+'.join(names)}"


def _made(
    recordings: list[Recording], seed: int, number: int
) -> tuple[Random, Recording, bytes, list[str]]:
    chance = Random(f"{seed}/{number}")
    recording = chance.choice(recordings)
    body, names = damaged(chance, recording.body)
    return chance, recording, body, names


def main() -> int:
    """Exit code 1: a property was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--n", type=int, default=10_000, help="mutations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--own", action="store_true", help="only the project's own recordings")
    options = parser.parse_args()
    recordings = [
        recording
        for recording in (own() if options.own else known())
        if len(recording.body) <= MAX_BODY_BYTES
    ]
    began = time.monotonic()
    made, whole, reports = run(recordings, options.seed, options.n)
    for report in reports:
        sys.stdout.write(report + "\n")
    sys.stdout.write(
        f"{made} mutations of {len(recordings)} recordings, seed {options.seed}: {whole} whole "
        f"answers, {len(reports)} faults "
        f"({time.monotonic() - began:.0f} s)\n"
    )
    return 1 if reports else 0


if __name__ == "__main__":
    sys.exit(main())
