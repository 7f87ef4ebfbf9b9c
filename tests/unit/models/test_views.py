"""models.views: rows as clients see them."""

from tokenwire.models.tables import Conversation, Message
from tokenwire.models.views import conversation_view, message_view
from tokenwire.protocol.values import timestamp

MESSAGE_FIELDS = [
    "id",
    "conversation_id",
    "ordinal",
    "role",
    "content",
    "reasoning",
    "status",
    "seq",
    "attempt",
    "rev",
    "model",
    "finish_reason",
    "error",
    "usage",
    "user_id",
    "parent_id",
    "parts",
    "object",
    "created_at",
    "updated_at",
]


def row(**changes: object) -> Message:
    values = {
        "id": "m1",
        "conversation_id": "c1",
        "ordinal": 2,
        "role": "assistant",
        "content": "Hel",
        "status": "streaming",
        "seq": 7,
        "epoch": "k3f9",
        "created_at": 0,
        "updated_at": 1_700_000_000_123,
    }
    return Message(**(values | changes))


def test_times_are_utc_with_milliseconds() -> None:
    """Always three digits and a Z."""
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1_700_000_000_120) == "2023-11-14T22:13:20.120Z"


def test_a_message_has_exactly_the_fields_of_the_protocol() -> None:
    """None of the internal columns (due_at, tries, cancel_by, epoch, ...)."""
    assert list(message_view(row())) == MESSAGE_FIELDS


def test_seq_counts_in_the_epoch_that_is_asked_for() -> None:
    """A checkpoint of another epoch, or of none, is no cursor."""
    assert message_view(row(), 7)["seq"] == 7
    assert message_view(row())["seq"] == 0


def test_parts_are_never_null() -> None:
    """Clients may iterate without a check."""
    assert message_view(row(content="", parts=None))["parts"] == []


def test_a_conversation_view() -> None:
    """Its fields, with times as text."""
    view = conversation_view(
        Conversation(id="c1", user_id="u", title=None, created_at=0, updated_at=1)
    )
    assert view == {
        "id": "c1",
        "user_id": "u",
        "title": None,
        "model": None,
        "instructions": None,
        "tools": None,
        "schema": None,
        "options": None,
        "archived": False,
        "message_count": 0,
        "last_message_at": None,
        "rev": 1,
        "created_at": "1970-01-01T00:00:00.000Z",
        "updated_at": "1970-01-01T00:00:00.001Z",
    }
