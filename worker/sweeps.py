"""Pure: what the sweeper does about a row of the list of outstanding work. SQL is that list; nothing here trusts a queue to remember.

| row | and | verdict |
|---|---|---|
| any that has not ended, cancel asked for | | cancel: ended here, or its worker told again |
| queued, first in line | no job that waits for a worker, for 2 s | enqueue |
| queued, first in line | a job is said to wait since 60 s | look into the broker, enqueue if it is not there |
| retrying | overdue by 1 s | enqueue |
| streaming | silent for 1.5 s | take over, if no lease is alive |
| ended, terminal event not announced | for 1 s | announce it |
"""

from enum import Enum, auto

from models.sweeps import Outstanding

NO_JOB_MS = 2_000
LOST_JOB_MS = 60_000
OVERDUE_MS = 1_000
SILENT_MS = 1_500
"""A running generation checkpoints every second while text comes; only where nothing was saved is the lease asked for."""
UNANNOUNCED_MS = 1_000
PATIENCE_MS = 2_000
"""What was just enqueued is given this long to be claimed."""


class Verdict(Enum):
    """What to do about a row."""

    NOTHING = auto()
    CANCEL = auto()
    ENQUEUE = auto()
    ENQUEUE_IF_LOST = auto()
    TAKE_OVER_IF_FREE = auto()
    ANNOUNCE_END = auto()


def judge(row: Outstanding, job_since: int | None) -> Verdict:
    """`job_since`: when the broker was given the job for this row that waits for a worker (ms), None if there is none."""
    if row.ended:
        return Verdict.ANNOUNCE_END if row.now - row.updated_at >= UNANNOUNCED_MS else Verdict.NOTHING
    if row.cancel_by is not None:
        return Verdict.CANCEL
    if row.now - (row.enqueued_at or 0) < PATIENCE_MS:
        return Verdict.NOTHING
    if row.status == "streaming":
        return Verdict.TAKE_OVER_IF_FREE if row.now - row.updated_at >= SILENT_MS else Verdict.NOTHING
    if row.status == "retrying":
        return Verdict.ENQUEUE if row.due_at is None or row.now - row.due_at >= OVERDUE_MS else Verdict.NOTHING
    return _judge_queued(row, job_since)


def _judge_queued(row: Outstanding, job_since: int | None) -> Verdict:
    if row.status != "queued" or not row.first_in_line or row.now - row.updated_at < NO_JOB_MS:
        return Verdict.NOTHING
    if job_since is None:
        return Verdict.ENQUEUE
    return Verdict.ENQUEUE_IF_LOST if row.now - job_since >= LOST_JOB_MS else Verdict.NOTHING
