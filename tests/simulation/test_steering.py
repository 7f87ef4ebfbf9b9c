"""Schedules whose people steer: each message reaches its model once, wherever a worker dies."""

from collections import Counter

import pytest

from tests.simulation.__main__ import report
from tests.simulation.faults import Plan
from tests.simulation.sabotage import SABOTAGES_OF_STEERING
from tests.simulation.schedule import Outcome, run
from tests.simulation.steering import POINTS

ENOUGH = 300
"""Every sabotage is found, and every point is hit, within so many seeds."""
MOST_EFFECTS = 400
STEERED = 2
"""A seed whose answer takes messages in."""


def good(outcome: Outcome) -> Outcome:
    assert not outcome.complaints, report(outcome)
    return outcome


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_dies_at_each_point_of_the_taking_in(point: str) -> None:
    """Between the step, the row that has it, and the placeholder's end."""
    facts = Counter[str]()
    for seed in range(1, ENOUGH):
        again = [(0.2, f"kill at: {point}"), (1.0, f"kill at: {point}")]
        facts.update(good(run(seed, tools=True, plan=Plan(faults=again))).facts)
        if facts[f"deaths at: {point}"] >= 3:
            return
    raise AssertionError(f"{facts[f'deaths at: {point}']} deaths")


@pytest.mark.long
def test_a_worker_dies_behind_each_effect() -> None:
    """Behind each statement and each append of a schedule with steering, one schedule for each."""
    steered = 0
    for number in range(1, MOST_EFFECTS):
        outcome = good(run(STEERED, tools=True, plan=Plan(die_behind=number)))
        steered += outcome.facts["steered"]
        if not outcome.facts.get("deaths behind an effect"):
            break
    assert 20 < number < MOST_EFFECTS
    assert steered > number / 2


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", SABOTAGES_OF_STEERING)
def test_a_sabotage_is_found(name: str) -> None:
    """Without this rule of the project some schedule goes wrong, and says so."""
    sabotage, plan = SABOTAGES_OF_STEERING[name]
    with sabotage():
        found = (run(seed, plan=plan, tools=True).complaints for seed in range(1, ENOUGH + 1))
        assert any(found)
