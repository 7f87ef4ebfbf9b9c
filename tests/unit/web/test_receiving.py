"""web.receiving: how much of bodies is held."""

import pytest

from streams.occupancy import Full
from web.receiving import Memory


def test_what_does_not_fit_takes_nothing_of_its_user_s_share() -> None:
    """While others hold all there is, a user is refused; afterwards the whole share is theirs."""
    memory = Memory(40)
    for user in ("a", "b", "c", "d"):
        memory.take(user, 10)
    for _ in range(3):
        with pytest.raises(Full):
            memory.take("late", 5)
    memory.release("a", 10)
    memory.take("late", 10)
    assert memory.held == 40
