"""Some schedules against production's scripts: Lua on a real Valkey, call by call."""

from collections.abc import Callable

import pytest

from tests.simulation.__main__ import report
from tests.simulation.schedule import run
from tests.simulation.scripts import Compared
from tokenwire.streams.log import ports

SCHEDULES, AT_A_TIME = 40, 10


@pytest.mark.sampled(2)
@pytest.mark.parametrize("first", range(1, SCHEDULES + 1, AT_A_TIME))
def test_the_scripts_answer_as_the_memory_log_does(first: int, valkey_url: str) -> None:
    """Every reply, every refusal and every message, through restarts, losses and failovers."""
    calls = 0
    for seed in range(first, first + AT_A_TIME):
        made: list[Compared] = []

        def compared(
            clock: Callable[[], float], limits: ports.Limits, made: list[Compared] = made
        ) -> Compared:
            made.append(Compared(valkey_url, clock, limits))
            return made[0]

        outcome = run(seed, compared)
        server = made[0]
        server.close()
        assert not server.differences, f"seed {seed}: {server.differences[0]}"
        assert not outcome.complaints, report(outcome)
        calls += server.calls
    assert calls > 25 * AT_A_TIME
