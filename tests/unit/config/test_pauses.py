"""config.pauses: how long to wait after a failure."""

from tokenwire.config.pauses import GrowingPause


def test_pauses_grow_while_failures_follow_one_another() -> None:
    """Up to a bound, and from the first one again after it has worked for a while."""
    pause = GrowingPause(0.5, 5.0)
    assert pause.is_first
    assert [pause.next() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    pause.ran(5.0)
    assert not pause.is_first
    pause.ran(5.1)
    assert (pause.is_first, pause.next()) == (True, 0.5)
    pause.reset()
    assert pause.next() == 0.5


def test_a_pause_may_be_spread() -> None:
    """Over its second half; the next one is twice as long all the same."""
    pause = GrowingPause(1.0, 8.0)
    waits = [pause.spread() for _ in range(3)]
    assert all(0.5 * bound <= wait <= bound for wait, bound in zip(waits, (1, 2, 4), strict=True))


def test_the_first_pause_is_not_above_the_longest() -> None:
    """A task may have a shorter bound than others."""
    assert GrowingPause(1.0, 0.2).next() == 0.2
