"""worker.sweeps: the table of what is done about outstanding rows."""

from dataclasses import replace

import pytest

from models.sweeps import Outstanding
from worker.sweeps import Verdict, judge

NOW = 10_000_000
ROW = Outstanding("m", "c", "queued", False, True, None, None, None, NOW - 60_000, NOW)


@pytest.mark.parametrize(
    ("changes", "job_since", "verdict"),
    [
        ({}, None, Verdict.ENQUEUE),
        ({"updated_at": NOW - 1_000}, None, Verdict.NOTHING),  # its post may be about to enqueue it
        ({"enqueued_at": NOW - 1_000}, None, Verdict.NOTHING),  # a worker may be about to claim it
        ({}, NOW - 5_000, Verdict.NOTHING),  # it waits its turn
        ({}, NOW - 61_000, Verdict.ENQUEUE_IF_LOST),
        ({"first_in_line": False}, None, Verdict.NOTHING),
        ({"status": "retrying", "due_at": NOW + 5_000}, None, Verdict.NOTHING),
        ({"status": "retrying", "due_at": NOW - 500}, None, Verdict.NOTHING),
        ({"status": "retrying", "due_at": NOW - 1_500}, None, Verdict.ENQUEUE),
        ({"status": "retrying", "due_at": NOW - 1_500, "enqueued_at": NOW - 400}, None, Verdict.NOTHING),
        ({"status": "streaming", "updated_at": NOW - 900}, None, Verdict.NOTHING),
        ({"status": "streaming", "updated_at": NOW - 2_000}, None, Verdict.TAKE_OVER_IF_FREE),
        ({"status": "streaming", "updated_at": NOW - 2_000, "enqueued_at": NOW - 500}, None, Verdict.NOTHING),
        ({"status": "waiting"}, None, Verdict.NOTHING),  # for a person
        ({"status": "streaming", "cancel_by": "me", "updated_at": NOW}, None, Verdict.CANCEL),
        ({"status": "queued", "cancel_by": "me", "first_in_line": False}, NOW, Verdict.CANCEL),
        ({"status": "complete", "ended": True}, None, Verdict.ANNOUNCE_END),
        ({"status": "complete", "ended": True, "updated_at": NOW - 500}, None, Verdict.NOTHING),
    ],
)
def test_the_table(changes: dict[str, object], job_since: int | None, verdict: Verdict) -> None:
    """Each line of the module's table, at both sides of its limit."""
    assert judge(replace(ROW, **changes), job_since) is verdict
