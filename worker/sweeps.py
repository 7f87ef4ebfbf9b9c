"""Pure: what the sweeper does about a row of the list of outstanding work. SQL is that list; nothing here trusts a queue to remember.

| row | and | verdict |
|---|---|---|
| queued, first in line | no job known to the broker for 2 s | enqueue |
| queued, first in line | a job is said to exist since 60 s | look into the broker, enqueue if it is not there |
| retrying | due for 1 s | enqueue |
| streaming | silent for 1.5 s and no live lease | enqueue: the next attempt takes over |
| any of these, cancel asked for | no live lease | end it as cancelled |
| ended, terminal event not announced | for 1 s | announce it |
| changed, change not announced | for 1 s | announce it |
"""

from dataclasses import dataclass
from enum import Enum, auto

NEVER_ENQUEUED_MS = 2_000
LOST_JOB_MS = 60_000
OVERDUE_MS = 1_000
SILENT_MS = 1_500
"""A running generation checkpoints every second; only where it does not is the lease asked for."""
UNANNOUNCED_MS = 1_000
PATIENCE_MS = 2_000
"""What was just enqueued is given this long to be claimed."""


class Verdict(Enum):
    """What to do about a row."""

    NOTHING = auto()
    ENQUEUE = auto()
    ENQUEUE_IF_LOST = auto()
    TAKE_OVER_IF_FREE = auto()
    CANCEL_IF_FREE = auto()
    ANNOUNCE_END = auto()
    ANNOUNCE_ROW = auto()


@dataclass(frozen=True, slots=True)
class Outstanding:
    """A row that has not ended, or whose end or change the log may not hold. Times are ms by the database's clock."""

    message_id: str
    conversation_id: str
    status: str
    ended: bool
    first_in_line: bool
    cancel_asked: bool
    row_announced: bool
    enqueued_at: int | None
    due_at: int | None
    updated_at: int
    now: int


def judge(row: Outstanding, job_since: int | None) -> Verdict:
    """`job_since`: when the broker was last given a job for the row that no worker has taken yet (ms), None if it has none."""
    if row.ended:
        return Verdict.ANNOUNCE_END if row.now - row.updated_at >= UNANNOUNCED_MS else Verdict.NOTHING
    if row.cancel_asked and row.now - row.updated_at >= SILENT_MS:
        return Verdict.CANCEL_IF_FREE
    if row.now - (row.enqueued_at or 0) < PATIENCE_MS:
        return Verdict.NOTHING
    if row.status == "streaming":
        return Verdict.TAKE_OVER_IF_FREE if row.now - row.updated_at >= SILENT_MS else Verdict.NOTHING
    if row.status == "retrying":
        return Verdict.ENQUEUE if row.due_at is None or row.now - row.due_at >= OVERDUE_MS else Verdict.NOTHING
    return _judge_queued(row, job_since)


def _judge_queued(row: Outstanding, job_since: int | None) -> Verdict:
    if row.status != "queued" or not row.first_in_line or row.now - row.updated_at < NEVER_ENQUEUED_MS:
        return Verdict.NOTHING
    if job_since is None:
        return Verdict.ENQUEUE
    return Verdict.ENQUEUE_IF_LOST if row.now - job_since >= LOST_JOB_MS else Verdict.NOTHING
