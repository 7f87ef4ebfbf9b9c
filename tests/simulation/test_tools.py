"""Schedules whose models call tools: each call runs once for each permission, wherever a worker
dies.
"""

from collections import Counter

import pytest

from tests.simulation.__main__ import report
from tests.simulation.calls import POINTS
from tests.simulation.faults import Plan
from tests.simulation.sabotage import SABOTAGES_OF_TOOLS
from tests.simulation.schedule import Outcome, run

SCHEDULES, AT_A_TIME, QUICK = 200, 10, 10
"""`make test` has the first 10 schedules, `make test-all` all of them."""
MOST_EFFECTS = 400
ENOUGH = 300
"""Every sabotage is found, and every point is hit, within so many seeds."""


def good(outcome: Outcome) -> Outcome:
    assert not outcome.complaints, report(outcome)
    return outcome


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(first, marks=pytest.mark.long if first > QUICK else ())
        for first in range(1, SCHEDULES + 1, AT_A_TIME)
    ],
)
def test_each_call_runs_once_for_each_permission(first: int) -> None:
    """Whatever fails, and whatever people decide; `calls.py` has the rules."""
    facts = Counter[str]()
    for seed in range(first, first + AT_A_TIME):
        facts.update(good(run(seed, tools=True)).facts)
    assert facts["executions"]
    assert facts["decisions"]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_dies_at_each_point(point: str) -> None:
    """Between any two steps of a call, again and again."""
    deaths = 0
    for seed in range(1, ENOUGH):
        again = [(0.2, f"kill at: {point}"), (2.0, f"kill at: {point}")]
        facts = good(run(seed, tools=True, plan=Plan(faults=again))).facts
        deaths += facts.get(f"deaths at: {point}", 0)
        if deaths >= 4:
            return
    raise AssertionError(f"{deaths} deaths")


@pytest.mark.parametrize("seed", [3, pytest.param(4, marks=pytest.mark.long)])
def test_a_worker_dies_behind_each_effect(seed: int) -> None:
    """Behind each statement, each append and each step of a tool, one schedule for each."""
    for number in range(1, MOST_EFFECTS):
        outcome = good(run(seed, tools=True, plan=Plan(die_behind=number)))
        if not outcome.facts.get("deaths behind an effect"):
            break
    assert 20 < number < MOST_EFFECTS


SLOW = ("claims_of_calls_without_comparison", "lost_calls_run_again")
"""They are found in few schedules."""


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each, marks=pytest.mark.long) if each in SLOW else each
        for each in SABOTAGES_OF_TOOLS
    ],
)
def test_a_sabotage_is_found(name: str) -> None:
    """Without this rule of the project some schedule goes wrong, and says so."""
    sabotage, plan = SABOTAGES_OF_TOOLS[name]
    with sabotage():
        found = (run(seed, plan=plan, tools=True).complaints for seed in range(1, ENOUGH + 1))
        assert any(found)
