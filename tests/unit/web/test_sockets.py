"""web.sockets: how many of something there may be in a minute."""

from web.sockets import PerMinute


def test_each_minute_has_its_own_count() -> None:
    """The first as well as those that follow it: so many, and not one more."""
    now = 1000.0
    budget = PerMinute(3, lambda: now)
    for _ in range(4):
        assert [budget.spend() for _ in range(4)] == [True, True, True, False]
        now += 60
        assert not budget.spend()  # it has to be over
        now += 1
