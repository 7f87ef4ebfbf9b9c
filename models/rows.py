"""States of a row."""

from sqlalchemy import ColumnElement, and_
from sqlmodel import col

from tokenwire.models.tables import Message, is_unfinished
from tokenwire.protocol.states import UNFINISHED


def unfinished(row: Message) -> bool:
    """Whether the row is an answer that has not ended."""
    return row.role == "assistant" and row.status in UNFINISHED


def is_held(message_id: str, attempt: int) -> ColumnElement[bool]:
    """In SQL: whether this attempt still has the answer. A worker that was fenced off has none."""
    mine = col(Message.id) == message_id, col(Message.attempt) == attempt
    return and_(*mine, is_unfinished(Message))
