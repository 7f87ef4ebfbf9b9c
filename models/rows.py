"""States of a row."""

from tokenwire.models.tables import Message
from tokenwire.protocol.states import UNFINISHED


def unfinished(row: Message) -> bool:
    """Whether the row is an answer that has not ended."""
    return row.role == "assistant" and row.status in UNFINISHED
