"""web.receiving: how much of bodies is held."""

import pytest

from streams.occupancy import Full
from web.receiving import Held, Memory


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


def test_what_was_given_back_is_not_given_back_again() -> None:
    """A body is released when its answer begins, and once more at its end: others' bodies still count."""
    memory = Memory(400)
    mine, other = Held(memory, "ada"), Held(memory, "ada")
    other.be(50)
    mine.be(30)
    for _ in range(3):
        mine.release()
    assert memory.held == 50
    with pytest.raises(Full):
        mine.be(51)
