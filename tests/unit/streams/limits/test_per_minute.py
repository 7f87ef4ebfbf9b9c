"""streams.limits.per_minute: a budget for each minute."""

from tokenwire.streams.limits.per_minute import PerMinute


def test_each_minute_has_its_own_count() -> None:
    """The first minute and those after it; the limit is exact."""
    now = 1000.0
    budget = PerMinute(3, now)
    for _ in range(4):
        assert [budget.spend(now) for _ in range(4)] == [True, True, True, False]
        now += 59
        assert not budget.spend(now)  # the minute has to be over
        now += 1
