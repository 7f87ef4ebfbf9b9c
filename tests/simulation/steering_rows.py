"""Steering in the simulated database: the acts of `models.steering`, each as one atomic step.

The conditions are written anew; `test_statements.py` compares them with the real SQL.
"""

from collections.abc import Callable, Collection
from typing import Any

from tests.simulation.call_tables import Row, is_unfinished
from tokenwire.models.steering import MOST_AT_A_STEP, STEER, STEERED


class SteeringRows:
    """The part of the database that takes posts into running answers."""

    conversations: dict[str, Row]
    messages: dict[str, Row]
    now_ms: Callable[[], int]
    _set: Callable[..., None]
    _mine: Callable[[str, int], Row | None]

    # --- the store's methods ---

    def steering_behind(self, message_id: str, attempt: int) -> list[str]:
        own = self._mine(message_id, attempt)
        if own is None or own.cancel_by is not None or own.superseded_by is not None:
            return []
        found = [
            row.parent_id
            for row in self._placeholders_behind(own)
            if _waits(row) and row.cancel_by is None and row.while_running == STEER
        ]
        return found[:MOST_AT_A_STEP]

    def take_in(self, message_id: str, attempt: int, ids: Collection[str]) -> list[str] | None:
        own = self._mine(message_id, attempt)
        return None if own is None else self.end_placeholders(own, ids)

    def texts_of(self, ids: Collection[str]) -> dict[str, str]:
        found = (self.messages.get(name) for name in ids)
        return {row.id: row.content for row in found if row is not None and row.role == "user"}

    # --- for providers ---

    def is_answered(self, content: str) -> bool:
        """Whether the message of this text has an answer of its own, which has begun."""
        return any(
            row.role == "assistant"
            and row.attempt
            and row.superseded_by is None
            and self.messages[row.parent_id].content == content
            for row in self.messages.values()
        )

    # --- what other acts do ---

    def end_placeholders(self, own: Row, ids: Collection[str]) -> list[str]:
        """The answer has taken these messages in: the ids of the placeholders that end now."""
        ended = []
        for row in self._placeholders_behind(own):
            if row.parent_id not in ids or row.while_running != STEER or row.superseded_by:
                continue
            if _waits(row):
                now = self.now_ms()
                self._set(row, status="cancelled", attempt=1, cancel_by=STEERED, due_at=None)
                self._set(row, updated_at=now, ended_at=now)
                ended.append(row.id)
            self._set(row, superseded_by=own.id)
            self.conversations[row.conversation_id].message_count -= 1
            self._set(self.messages[row.parent_id], steers=own.id)
        return ended

    def let_posts_steer(self, own: Row) -> None:
        """Questions before these posts were taken back."""
        for row in self._placeholders_behind(own):
            if _waits(row) and row.cancel_by is None and row.while_running is None:
                self._set(row, while_running=STEER)

    def _placeholders_behind(self, own: Row) -> list[Any]:
        return [
            row
            for row in self.messages.values()
            if row.conversation_id == own.conversation_id
            and row.ordinal > own.ordinal
            and row.role == "assistant"
        ]


def _waits(row: Row) -> bool:
    """A placeholder that nobody has begun."""
    return is_unfinished(row) and (row.status, row.attempt) == ("queued", 0)
