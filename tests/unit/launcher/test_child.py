"""When a process that ends is started again (what it does with real processes is in tests/integration/launcher)."""

from launcher.child import pause_before_restart


def test_the_first_ends_are_answered_at_once() -> None:
    """A process that is killed comes back within a second, also the second and third time."""
    assert pause_before_restart(0) == 0
    assert pause_before_restart(1) == 0
    assert pause_before_restart(3) < 1


def test_a_process_that_cannot_live_is_tried_ever_more_slowly() -> None:
    """The pause grows with each quick end, up to 5 s."""
    pauses = [pause_before_restart(ends) for ends in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5
