"""Some schedules against production's statements: SQL on SQLite, call by call."""

import asyncio
from pathlib import Path

import pytest

from tests.simulation.__main__ import report
from tests.simulation.schedule import run
from tests.simulation.statements import Recorded, differences
from tokenwire.models.migrate import migrate

SCHEDULES, AT_A_TIME = 12, 2


SLICES = [(first, tools) for first in range(1, SCHEDULES + 1, AT_A_TIME) for tools in (False, True)]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("first", "tools"),
    [
        pytest.param(first, tools, marks=pytest.mark.long) if first > 1 else (first, tools)
        for first, tools in SLICES
    ],
)
def test_the_statements_answer_as_the_simulated_database_does(
    first: int, tools: bool, tmp_path: Path
) -> None:
    """Every row, every refusal and every list, through crashes, take-overs and deletions."""
    calls = 0
    for seed in range(first, first + AT_A_TIME):
        made: list[Recorded] = []

        def recorded(clock: object, made: list[Recorded] = made) -> Recorded:
            made.append(Recorded(clock))  # type: ignore[arg-type]
            return made[0]

        outcome = run(seed, make_database=recorded, tools=tools)
        assert not outcome.complaints, report(outcome)
        url = f"sqlite:///{tmp_path}/{seed}.db"
        migrate(url)
        found = asyncio.run(differences(url, made[0].calls))
        assert not found, f"seed {seed}: {found[0]}"
        calls += len(made[0].calls)
    assert calls > 40 * AT_A_TIME
