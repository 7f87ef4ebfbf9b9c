"""Some hundred schedules, their replay, and proof that the simulation notices real bugs."""

import os
import subprocess
import sys

import pytest

from tests.simulation.__main__ import report
from tests.simulation.faults import Plan
from tests.simulation.sabotage import SABOTAGES
from tests.simulation.schedule import run

SCHEDULES, AT_A_TIME, QUICK = 300, 50, 100
"""`make test` has the first 100 schedules, `make test-all` all of them."""
ENOUGH = 800
"""Every sabotage is found within so many seeds; the first one that finds it ends the search."""


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(first, marks=pytest.mark.long if first > QUICK else ())
        for first in range(1, SCHEDULES + 1, AT_A_TIME)
    ],
)
def test_nothing_is_lost_or_repeated(first: int) -> None:
    """Whatever is killed, paused, cut, restarted or lost: `checks.py` has the rules. A failure
    names its seed.
    """
    for seed in range(first, first + AT_A_TIME):
        outcome = run(seed)
        assert not outcome.complaints, report(outcome)


@pytest.mark.sampled(10)
@pytest.mark.parametrize("count", range(48))
def test_a_lost_end_of_any_length(count: int) -> None:
    """The last `count` writes are lost, twice in a row: readers that had seen them read again, and
    nobody else.
    """
    for seed in (1, 2):
        again = [
            (0.9 + seed * 0.4, "lose_the_end"),
            (2.4 + seed * 0.3, "lose_the_end"),
            (2.6 + seed * 0.3, "lose_the_end"),
        ]
        outcome = run(seed + 10 * count, plan=Plan(faults=again, lost=[count, count // 2, 1]))
        assert not outcome.complaints, report(outcome)


def test_a_seed_replays_exactly() -> None:
    """To the last line of the trace, in this process and in one that hashes strings otherwise."""
    here = [run(seed).digest for seed in range(1, 9)]
    assert [run(seed).digest for seed in range(1, 9)] == here
    code = (
        "from tests.simulation.schedule import run\nprint(*(run(seed).digest for seed in "
        "range(1, 9)))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert there.stdout.split() == here


SLOW = (
    "no_fence",
    "no_fence_in_sql",
    "no_wait_for_what_is_out",
    "take_overs_forget_in_silence",
)
"""They are found in few schedules."""


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.long) if each in SLOW else each for each in SABOTAGES],
)
def test_a_sabotage_is_found(name: str) -> None:
    """Without this rule of the project some schedule goes wrong, and says so."""
    with SABOTAGES[name]():
        assert any(run(seed).complaints for seed in range(1, ENOUGH + 1))
