"""worker.sweeper.sweeps: what is known of a job, and how long an answer waits, whatever clocks
do.
"""

import pytest

from tokenwire.config.settings import Settings
from tokenwire.models.sweeps import AHEAD_MS
from tokenwire.worker.sweeper.sweeps import LONGEST_WAIT_MS, LOST_JOB_MS, Job, judge, wait_ms

NOW = 1_800_000_000_000
HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("since", "job"),
    [
        (None, Job.NONE),
        (NOW, Job.WAITS),
        (NOW - LOST_JOB_MS + 1, Job.WAITS),
        (NOW - LOST_JOB_MS, Job.DOUBTFUL),
        (NOW + AHEAD_MS, Job.WAITS),  # another machine's clock
        (NOW + HOUR_MS, Job.DOUBTFUL),  # the clock was set back since
    ],
)
def test_what_is_known_of_a_job(since: int | None, job: Job) -> None:
    """The broker is believed for a while."""
    assert judge(since, NOW) is job


@pytest.mark.parametrize(
    ("due_at", "left"),
    [
        (None, 0),
        (NOW - 1, 0),
        (NOW, 0),
        (NOW + 1, 1),
        (NOW + LONGEST_WAIT_MS, LONGEST_WAIT_MS),
        (NOW + HOUR_MS, 0),
    ],
)
def test_how_long_an_answer_waits(due_at: int | None, left: int) -> None:
    """A time further ahead than any that is given out was given before the clock was set back."""
    assert wait_ms(due_at, NOW) == left


def test_no_retry_waits_longer_than_the_sweeper_believes() -> None:
    """A quarter is added by chance to what a provider may ask for."""
    longest = max(
        bound.le
        for bound in Settings.model_fields["max_retry_after_seconds"].metadata
        if hasattr(bound, "le")
    )
    assert longest * 1.25 * 1000 < LONGEST_WAIT_MS
