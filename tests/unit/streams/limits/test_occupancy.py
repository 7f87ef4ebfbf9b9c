"""streams.limits.occupancy: counted places for each name."""

import pytest

from tokenwire.streams.limits.occupancy import Full, Occupancy


def test_places_are_counted_per_name() -> None:
    """A full name takes nothing and does not affect others; a released place can be taken again."""
    places = Occupancy(2)
    places.take("a", 2)
    with pytest.raises(Full):
        places.take("a")
    places.take("b")
    places.release("a")
    with places.held("a"), pytest.raises(Full):
        places.take("a")
    assert (places.taken("a"), places.taken("b")) == (1, 1)


def test_no_limit_and_no_name() -> None:
    """Both admit everybody, and nothing is counted without a name."""
    places = Occupancy(None)
    places.take("a", 10**9)
    full = Occupancy(0)
    full.take(None)
    full.release(None)
    with pytest.raises(Full):
        full.take("a")


def test_a_name_without_places_costs_no_memory() -> None:
    """Names come and go."""
    places = Occupancy(5)
    for name in range(100):
        with places.held(name):
            pass
    assert not places._taken
