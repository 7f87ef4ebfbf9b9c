"""Pure: the events of a feed, as the difference between a reader's list and the present one
(PROTOCOL.md, section 7).

A feed has no log: SQL gives the present list, and a reader with an older one gets the difference.
So a late reader gets the latest state, never a list of everything in between.
"""

from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation in a list, in wire form. `running`: an answer is unfinished, it may wait.
    `message_id` and `status`: its newest answer's (null without one).
    """

    id: str
    user_id: str
    title: str | None
    model: str | None
    rev: int
    created_at: str
    updated_at: str
    message_count: int
    last_message_at: str | None
    running: bool
    message_id: str | None
    status: str | None

    @property
    def state(self) -> Literal["running", "waiting", "ended"]:
        """The type of the event that shows how it is. It waits if its newest answer does."""
        if not self.running:
            return "ended"
        return "waiting" if self.status == "waiting" else "running"


Absence = Literal["deleted", "archived"]
"""Why a conversation left the list: it is no longer the user's, or is in their archive."""
ShownList = dict[str, Summary]
"""A reader's list, by conversation."""


def snapshot(now: Iterable[Summary]) -> dict[str, Any]:
    """The whole list, newest change first: a feed begins with it."""
    return {"type": "snapshot", "conversations": [asdict(summary) for summary in now]}


def changes(
    shown: Mapping[str, Summary], now: Iterable[Summary], gone: Mapping[str, Absence]
) -> list[dict[str, Any]]:
    """The events that turn `shown` into the present list. They can be applied in this order:
    deletions first, then changes, the oldest first.

    `now`: the newest conversations; `gone`: why others are in no list of this user any more.
    Conversations of `shown` that are in neither are too old for the list, and give no event.
    """
    events: list[dict[str, Any]] = [
        {"type": gone[name], "conversation_id": name} for name in shown if name in gone
    ]
    for summary in reversed(list(now)):
        before = shown.get(summary.id)
        if before is None:
            events.append({"type": "created", "conversation": asdict(summary)})
        else:
            events.extend(_changes(before, summary))
    return events


def after(shown: Mapping[str, Summary], now: Iterable[Summary], gone: Container[str]) -> ShownList:
    """A reader's list after the changes."""
    return {name: summary for name, summary in shown.items() if name not in gone} | {
        summary.id: summary for summary in now
    }


def _changes(before: Summary, now: Summary) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    if (now.title, now.rev) != (before.title, before.rev):
        events.append(
            {"type": "titled", "conversation_id": now.id, "title": now.title, "rev": now.rev}
        )
    if (now.message_id, now.state) != (before.message_id, before.state):
        known = {"conversation_id": now.id, "message_id": now.message_id}
        status = {"status": now.status} if now.state == "ended" else {}
        counted = {"message_count": now.message_count, "last_message_at": now.last_message_at}
        times = {"updated_at": now.updated_at, **counted}
        events.append({"type": now.state, **known, **status, **times})
    return events
