"""worker.probation: one suspect at a time, and how a probation ends."""

import pytest

from tokenwire.worker.probation import PROBATION_SECONDS, SUSPECT_DEATHS, Probation, outlived, over
from tokenwire.worker.retries import PROGRESS_CHARS


def test_one_suspect_at_a_time() -> None:
    """Whoever is none takes no place; a second job of the suspect finds its own place taken."""
    place = Probation()
    assert place.admits("fine", SUSPECT_DEATHS - 1)
    assert place.admits("first", SUSPECT_DEATHS)
    assert (place.holds("first"), place.holds("fine")) == (True, False)
    assert not place.admits("second", SUSPECT_DEATHS)
    assert not place.admits("first", SUSPECT_DEATHS)
    assert place.admits("fine", 0)
    place.leave("second")
    assert not place.admits("second", SUSPECT_DEATHS), "who has no place cannot leave another's"
    place.leave("first")
    assert place.admits("second", SUSPECT_DEATHS + 5)


@pytest.mark.parametrize(
    ("added", "lived", "ends", "innocent"),
    [
        (0, 0.0, False, False),
        (PROGRESS_CHARS - 1, PROBATION_SECONDS - 0.1, False, False),
        (PROGRESS_CHARS, 0.0, True, False),
        (0, PROBATION_SECONDS, True, True),
    ],
)
def test_how_it_ends(added: int, lived: float, ends: bool, innocent: bool) -> None:
    """Text lets the next suspect begin; only time forgets the deaths, since text may be dropped."""
    assert (over(added, lived), outlived(lived)) == (ends, innocent)
