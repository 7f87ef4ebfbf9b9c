"""Pure: what a feed says. The difference between what a reader was told and how things are, as the events of PROTOCOL.md, section 7.

A feed has no log: SQL is asked how things are, and whoever was told something older is told the difference. So a reader that lags is
told the latest state, never a list of everything in between.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Summary:
    """A conversation in a list, as it travels. `message_id` and `status` are those of its newest answer (null without one)."""

    id: str
    user_id: str
    title: str | None
    model: str | None
    rev: int
    created_at: str
    updated_at: str
    running: bool
    message_id: str | None
    status: str | None


ShownList = dict[str, Summary]
"""What a reader knows, by conversation."""


def snapshot(now: Iterable[Summary]) -> dict[str, Any]:
    """All there is, last changed first: what a feed begins with."""
    return {"type": "snapshot", "conversations": [asdict(summary) for summary in now]}


def changes(
    shown: Mapping[str, Summary], now: Iterable[Summary], gone: Collection[str]
) -> list[dict[str, Any]]:
    """What has happened since, in an order in which a list can apply it: first what is gone, then the oldest change.

    Conversations of `shown` that are in neither of the two are too old for the list; nothing is said of them.
    """
    events: list[dict[str, Any]] = [
        {"type": "deleted", "conversation_id": name} for name in shown if name in gone
    ]
    for summary in reversed(list(now)):
        before = shown.get(summary.id)
        if before is None:
            events.append({"type": "created", "conversation": asdict(summary)})
        else:
            events.extend(_changes(before, summary))
    return events


def after(shown: Mapping[str, Summary], now: Iterable[Summary], gone: Collection[str]) -> ShownList:
    """What a reader knows who was told the changes."""
    return {name: summary for name, summary in shown.items() if name not in gone} | {
        summary.id: summary for summary in now
    }


def _changes(before: Summary, now: Summary) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    if (now.title, now.rev) != (before.title, before.rev):
        events.append(
            {"type": "titled", "conversation_id": now.id, "title": now.title, "rev": now.rev}
        )
    another = now.message_id != before.message_id
    if now.running and (another or not before.running):
        events.append(
            {
                "type": "running",
                "conversation_id": now.id,
                "message_id": now.message_id,
                "updated_at": now.updated_at,
            }
        )
    if not now.running and (another or before.running):
        events.append(
            {
                "type": "ended",
                "conversation_id": now.id,
                "message_id": now.message_id,
                "status": now.status,
                "updated_at": now.updated_at,
            }
        )
    return events
