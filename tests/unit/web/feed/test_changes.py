"""web.feed.changes: the changes turn an older list into the present one."""

from dataclasses import asdict, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tokenwire.web.feed.changes import Absence, Summary, after, changes, snapshot

BEFORE = Summary(
    "c", "u", None, None, 1, "t0", "t0", 0, None, running=False, message_id=None, status=None
)


def kinds(now: Summary, before: Summary = BEFORE) -> list[str]:
    return [event["type"] for event in changes({before.id: before}, [now], {})]


def test_each_change_has_its_event() -> None:
    """A change that a list does not show has none."""
    running = replace(BEFORE, running=True, message_id="m", status="queued", updated_at="t1")
    ended = replace(running, running=False, status="complete")
    assert kinds(BEFORE) == []
    assert kinds(replace(BEFORE, model="x", updated_at="t1")) == []
    assert kinds(replace(BEFORE, title="T", rev=2)) == ["titled"]
    assert kinds(running) == ["running"]
    assert kinds(replace(running, status="streaming"), running) == []
    assert kinds(ended, running) == ["ended"]
    assert kinds(replace(ended, title="T", rev=2), running) == ["titled", "ended"]


def test_an_answer_that_ran_between_two_reads_has_ended() -> None:
    """Neither read saw it run; its end is sent all the same."""
    first = replace(BEFORE, message_id="m", status="complete")
    assert kinds(first) == ["ended"]
    assert kinds(replace(first, message_id="n"), first) == ["ended"]


def test_the_next_answer_begins_while_one_runs() -> None:
    """A queue of posts."""
    first = replace(BEFORE, message_id="m", status="streaming", running=True)
    assert kinds(replace(first, message_id="n", status="queued"), first) == ["running"]


def test_an_answer_waits_and_goes_on() -> None:
    """Who waits for a decision does not work."""
    running = replace(BEFORE, message_id="m", status="streaming", running=True)
    waiting = replace(running, status="waiting")
    assert kinds(waiting) == kinds(waiting, running) == ["waiting"]
    assert kinds(waiting, waiting) == []
    assert kinds(replace(running, status="queued"), waiting) == ["running"]
    assert kinds(replace(waiting, message_id="n"), waiting) == ["waiting"]
    assert kinds(replace(waiting, running=False, status="cancelled"), waiting) == ["ended"]


def test_a_conversation_that_leaves_the_list_is_not_deleted() -> None:
    """It stays known: if it comes back, it is not new."""
    told = {"c": BEFORE}
    assert changes(told, [], {}) == []
    assert after(told, [], ()) == told
    assert changes(told, [], {"c": "deleted"}) == [{"type": "deleted", "conversation_id": "c"}]
    assert after(told, [], {"c"}) == {}


def test_an_archived_conversation_is_not_deleted() -> None:
    """Its owner can bring it back, and a client keeps what it knows of it."""
    assert changes({"c": BEFORE}, [], {"c": "archived"}) == [
        {"type": "archived", "conversation_id": "c"}
    ]
    assert kinds(BEFORE, replace(BEFORE, id="another")) == ["created"]


summaries = st.builds(
    Summary,
    id=st.sampled_from("abcd"),
    user_id=st.just("u"),
    title=st.sampled_from([None, "T", "U"]),
    model=st.just("demo"),
    rev=st.integers(1, 3),
    created_at=st.just("t"),
    updated_at=st.sampled_from(["t1", "t2"]),
    message_count=st.integers(0, 2),
    last_message_at=st.none(),
    running=st.booleans(),
    message_id=st.sampled_from([None, "m", "n"]),
    status=st.sampled_from([None, "queued", "complete"]),
)
states = st.lists(
    st.lists(summaries, max_size=4, unique_by=lambda summary: summary.id), min_size=1, max_size=5
)


class List:
    """A sidebar: what it shows for each conversation."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.rows: dict[str, dict[str, Any]] = {row["id"]: row for row in first["conversations"]}

    def apply(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "created":
            assert event["conversation"]["id"] not in self.rows
            self.rows[event["conversation"]["id"]] = event["conversation"]
        elif kind == "deleted":
            del self.rows[event["conversation_id"]]
        else:
            row = self.rows[event["conversation_id"]]
            row |= {name: value for name, value in event.items() if name in row}
            row["running"] = {"running": True, "ended": False}.get(kind, row["running"])


@given(states)
def test_the_list_ends_as_the_rows_are(states: list[list[Summary]]) -> None:
    """Whatever happened in between: title, running, newest answer, deletions."""
    shown = List(snapshot(states[0]))
    told = after({}, states[0], ())
    for now in states[1:]:
        gone: dict[str, Absence] = dict.fromkeys(set(told) - {one.id for one in now}, "deleted")
        for event in changes(told, now, gone):
            shown.apply(event)
        told = after(told, now, gone)
    fields = ("title", "rev", "running", "message_id")
    assert {name: [row[field] for field in fields] for name, row in shown.rows.items()} == {
        summary.id: [asdict(summary)[field] for field in fields] for summary in states[-1]
    }
