"""What operators hear of a log's server. Readiness asks every backend, so it is in the contract."""

import inspect

import pytest

from tests.contracts.log.rigs import Rig
from tokenwire.streams.log.ports import Log
from tokenwire.worker.needs import needs


@pytest.mark.parametrize("rig", ["memory", "valkey"], indirect=True)  # fakeredis has no memory
async def test_a_healthy_log_has_nothing_to_say(rig: Rig) -> None:
    """It answers, and takes writes."""
    log = rig.log()
    assert (await log.check(), await log.check_write()) == (None, None)


class _Asked:
    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> object:
        self.names.add(name)
        return None


def test_readiness_asks_nothing_beyond_the_contract() -> None:
    """A backend that has every method of `Log` passes."""
    log = _Asked()
    needs(_Asked(), log)  # type: ignore[arg-type]  # it records what is asked
    assert log.names == {"check", "check_write"}
    assert log.names <= {name for name, _ in inspect.getmembers(Log, inspect.isfunction)}
