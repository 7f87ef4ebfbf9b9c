"""When the sweeper acts. SQL lists the outstanding work, because queues can lose jobs.

| row | is due | then |
|---|---|---|
| unfinished, cancelled | at once | ended here, or its worker is asked again |
| streaming | not saved for 1.5 s | taken over, if no lease is alive |
| retrying | 1 s after its time | enqueued |
| queued, first of its conversation | for 2 s | enqueued, if no job of it waits for a worker |
| the same, with a job marked as waiting | for 60 s | enqueued, if the broker lacks the job |
| call that awaits a decision, time over | at once | decided; a waiting answer is enqueued |
| ended, terminal event not announced | for 1 s | announced |
| row or title not announced | for 1 s | announced |
| deleted, log not | for 1 s | the log is deleted |
| removed participant, not announced | for 1 s | the user's tokens are revoked |

The sweeper does not wait for frozen workers. A locked row is left to the next round. A row that was
just enqueued has 2 s to be claimed. A time in the future was noted before the clock was set back:
it counts as long past.
"""

from enum import Enum, auto

from tokenwire.models.sweeps import AHEAD_MS, Due

LOST_JOB_MS = 60_000
LONGEST_WAIT_MS = 15 * 60_000
"""The longest wait before a retry, whatever MAX_RETRY_AFTER_SECONDS says."""
DUE = Due(
    claimed=2_000,
    waiting=2_000,
    overdue=1_000,
    silent=1_500,
    unannounced=1_000,
    longest_wait=LONGEST_WAIT_MS,
)
"""`silent`: an attempt checkpoints every second while text comes, so only rows that nobody saved
lately have their lease looked at."""


class Job(Enum):
    """The state of a queued answer's job."""

    NONE = auto()
    WAITS = auto()
    DOUBTFUL = auto()


def judge(since: int | None, now: int) -> Job:
    """The state of a job that waits since `since` (ms; None: no job waits)."""
    if since is None:
        return Job.NONE
    return Job.WAITS if now - LOST_JOB_MS < since <= now + AHEAD_MS else Job.DOUBTFUL


def wait_ms(due_at: int | None, now: int) -> int:
    """How long an answer must still wait that is due at `due_at`, in ms."""
    left = 0 if due_at is None else due_at - now
    return left if 0 < left <= LONGEST_WAIT_MS else 0
