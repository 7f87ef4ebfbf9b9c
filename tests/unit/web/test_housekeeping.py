"""web.housekeeping: expired rows are deleted soon after the start and every hour, each kind
independently.
"""

import pytest

from tokenwire.config.metrics import TASK_FAILURES
from tokenwire.models.errors import StoreUnavailable
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.streams.log.ports import Limits
from tokenwire.web import housekeeping
from tokenwire.web.housekeeping import FIRST_SECONDS, PERIOD_SECONDS, clean, keep_house

LOG = MemoryLog(Limits(tombstone_seconds=900.0))


class Store:
    """Records its calls, and fails on request."""

    def __init__(self, **errors: Exception) -> None:
        self.asked: list[str] = []
        self._errors = errors

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if what in self._errors:
            raise self._errors[what]

    async def forget_keys(self) -> None:
        self._note("keys")

    async def forget_unlisted(self) -> None:
        self._note("unlisted")

    async def forget_deleted(self, after_ms: int) -> None:
        assert after_ms == 900_000
        self._note("deleted")


class Enough(Exception):
    """Ends the test's loop."""


async def test_it_runs_soon_and_then_hourly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that lives for less than an hour cleans up, too."""
    store, slept = Store(), list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise Enough

    monkeypatch.setattr(housekeeping, "_sleep", sleep)
    with pytest.raises(Enough):
        await keep_house(store, LOG)  # type: ignore[arg-type]  # all of a store that it uses
    assert 0 <= slept[0] <= FIRST_SECONDS
    assert slept[1:] == [PERIOD_SECONDS] * 2
    assert store.asked == ["keys", "unlisted", "deleted"] * 2


@pytest.mark.parametrize("kind", ["keys", "unlisted", "deleted"])
async def test_kinds_fail_independently(kind: str) -> None:
    """An outage is logged, a bug counted."""
    before = TASK_FAILURES.labels("housekeeping")._value.get()
    for error in (StoreUnavailable("too slow"), ValueError("a bug")):
        store = Store(**{kind: error})
        await clean(store, LOG)  # type: ignore[arg-type]
        assert store.asked == ["keys", "unlisted", "deleted"]
    assert TASK_FAILURES.labels("housekeeping")._value.get() == before + 1
