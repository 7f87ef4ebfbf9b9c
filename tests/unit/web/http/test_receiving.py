"""web.http.receiving: how many bytes of bodies are held."""

import pytest

from tokenwire.streams.limits.occupancy import Full
from tokenwire.web.http.receiving import (
    SLOWEST_BYTES_PER_SECOND,
    BodyMemory,
    BufferedBody,
    MinimumRate,
)


def test_a_refused_body_does_not_reduce_its_users_share() -> None:
    """While others hold everything, a user is refused; afterwards the user has the whole share."""
    memory = BodyMemory(40)
    for user in ("a", "b", "c", "d"):
        memory.take(user, 10)
    for _ in range(3):
        with pytest.raises(Full):
            memory.take("late", 5)
    memory.release("a", 10)
    memory.take("late", 10)
    assert memory.held == 40


def test_a_body_is_released_once() -> None:
    """A body is released when its answer begins and again at its end; the bodies of others still
    count.
    """
    memory = BodyMemory(400)
    mine, other = BufferedBody(memory, "ada"), BufferedBody(memory, "ada")
    other.be(50)
    mine.be(30)
    for _ in range(3):
        mine.release()
    assert memory.held == 50
    with pytest.raises(Full):
        mine.be(51)


def test_an_address_gets_half() -> None:
    """However many users it has; other addresses still have room."""
    memory = BodyMemory(80)
    here = [BufferedBody(memory, user, "here") for user in ("a", "b", "c")]
    here[0].be(20)
    here[1].be(20)
    with pytest.raises(Full):
        here[2].be(1)
    BufferedBody(memory, "c", "elsewhere").be(20)
    here[0].release()
    with pytest.raises(Full):
        BufferedBody(memory, "c", "here").be(1)  # a user's own share
    BufferedBody(memory, "d", "here").be(20)


@pytest.mark.parametrize(
    ("seconds", "read_seconds", "left"),
    [
        (0.0, 0, 5.0),  # a pause is limited even at the beginning
        (7.0, 0, 3.0),  # the grace is nearly over
        (10.0, 0, 0.0),
        (10.0, 2, 2.0),  # what came meanwhile gives time
        (10.0, 90, 5.0),
        (58.0, 90, 2.0),  # but not for ever
        (61.0, 90, 0.0),
    ],
)
def test_a_body_must_keep_coming(seconds: float, read_seconds: int, left: float) -> None:
    """`read_seconds`: how long the bytes that came may have taken at the slowest rate."""
    rate = MinimumRate(grace=10.0, gap=5.0, most=60.0)
    assert rate.left(seconds, read_seconds * SLOWEST_BYTES_PER_SECOND) == left
