"""worker.attempt.run_place: a run is attached to where the log ends, never behind it."""

from tokenwire.worker.attempt.run_place import RunPlace
from tokenwire.worker.resume.continuation import Run

FIRST, SECOND, THIRD = (Run("run", cursor) for cursor in (1, 2, 3))


def between_batches() -> RunPlace:
    """The batch with the text before FIRST is out; the text before SECOND waits for the next."""
    place = RunPlace()
    place.reach(FIRST, idle=False)
    place.send()
    place.reach(SECOND, idle=False)
    return place


def test_a_place_counts_once_the_log_has_it() -> None:
    """Until then, a successor attaches at the place before."""
    place = RunPlace(FIRST)
    place.reach(SECOND, idle=False)
    place.send()
    assert place.acknowledged == FIRST
    place.acknowledge(idle=True)
    assert place.acknowledged == SECOND


def test_a_place_without_text_counts_at_once() -> None:
    """The log holds everything before it."""
    place = RunPlace()
    place.reach(FIRST, idle=True)
    assert place.acknowledged == FIRST


def test_a_place_behind_the_batch_waits_for_the_next_one() -> None:
    """Its text was taken while the batch was out."""
    place = between_batches()
    place.acknowledge(idle=False)
    assert place.acknowledged == FIRST
    place.send()
    place.acknowledge(idle=True)
    assert place.acknowledged == SECOND


def test_a_place_that_was_reached_without_text_needs_no_batch() -> None:
    """The batch that is out brings the log to the place that was reached last."""
    place = between_batches()
    place.acknowledge(idle=True)
    assert place.acknowledged == SECOND


def test_a_batch_before_any_place_changes_nothing() -> None:
    """A run that names no place is attached to where the last attempt left it."""
    place = RunPlace(FIRST)
    place.send()
    place.acknowledge(idle=True)
    assert place.acknowledged == FIRST


def test_text_that_never_leaves_takes_its_place_along() -> None:
    """The batch that is out may still arrive."""
    place = RunPlace(FIRST)
    place.reach(SECOND, idle=False)
    place.send()
    place.reach(THIRD, idle=False)
    place.drop_waiting()
    place.acknowledge(idle=True)
    assert place.acknowledged == SECOND
    place.reach(THIRD, idle=False)
    place.send()
    place.drop_unacknowledged()
    place.acknowledge(idle=True)
    assert place.acknowledged == SECOND


def test_a_forgotten_run_stays_forgotten() -> None:
    """Whatever is still out."""
    place = RunPlace(FIRST)
    place.reach(SECOND, idle=False)
    place.send()
    place.forget()
    place.acknowledge(idle=True)
    assert place.acknowledged is None
