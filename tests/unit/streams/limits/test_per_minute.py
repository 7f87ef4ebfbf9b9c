"""streams.limits.per_minute: how many of something there may be in a minute."""

from tokenwire.streams.limits.per_minute import PerMinute


def test_each_minute_has_its_own_count() -> None:
    """The first as well as those that follow it: so many, and not one more."""
    now = 1000.0
    budget = PerMinute(3, now)
    for _ in range(4):
        assert [budget.spend(now) for _ in range(4)] == [True, True, True, False]
        now += 59
        assert not budget.spend(now)  # it has to be over
        now += 1
