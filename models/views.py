"""Rows in wire form (PROTOCOL.md, section 1). Times are ISO 8601 in UTC with milliseconds."""

from typing import Any

from tokenwire.models.call_states import call_fields
from tokenwire.models.parts import layout_of
from tokenwire.models.tables import CallDecision, CallRow, Conversation, Message
from tokenwire.protocol.text import utf16_length
from tokenwire.protocol.values import optional_timestamp, present, timestamp


def message_view(row: Message, seq: int = 0) -> dict[str, Any]:
    """The wire form of a message. `seq`: how far its text reaches in the present log
    (`streams.log.ports.Page.reached`).
    """
    return {
        "id": row.id,
        "conversation_id": row.conversation_id,
        "ordinal": row.ordinal,
        "role": row.role,
        "content": row.content,
        "reasoning": row.reasoning,
        "status": row.status,
        "seq": seq,
        "attempt": row.attempt,
        "rev": row.rev,
        "model": row.model,
        "finish_reason": row.finish_reason,
        "error": row.error,
        "usage": row.usage,
        "user_id": row.user_id,
        "parent_id": row.parent_id,
        "parts": layout_of(row),
        "object": row.object,
        "created_at": timestamp(row.created_at),
        "updated_at": timestamp(row.updated_at),
    }


def announced_view(row: Message) -> dict[str, Any]:
    """The wire form in a `message` event. An answer comes without text and parts: its own events
    bring them, and a client that took them from two places would have them twice.
    """
    if row.role != "assistant":
        return message_view(row)
    return message_view(row) | {"content": "", "reasoning": "", "parts": [], "object": None}


def conversation_view(row: Conversation, *, archived: bool = False) -> dict[str, Any]:
    """The wire form of a conversation. `model` null: the default model. `archived`: whether it is
    in the archive of the user who asks.
    """
    return {
        "id": row.id,
        "user_id": row.user_id,
        "title": row.title,
        "model": row.model,
        "instructions": row.instructions,
        "tools": row.tools,
        "schema": row.response_schema,
        "options": row.options,
        "archived": archived,
        "message_count": row.message_count,
        "last_message_at": optional_timestamp(row.last_message_at),
        "rev": row.rev,
        "created_at": timestamp(row.created_at),
        "updated_at": timestamp(row.updated_at),
    }


def call_view(row: CallRow) -> dict[str, Any]:
    """The wire form of a call: its part, and how often it ran."""
    named = {"number": row.number, "id": row.id, "name": row.name, "runs": row.runs}
    written = {"input": row.input, "length": utf16_length(row.input)}
    return named | call_fields(row) | written


def decision_view(row: CallDecision) -> dict[str, Any]:
    """The wire form of a decision. Arguments and results are fields of its call."""
    return present(by=row.by, at=timestamp(row.at), decision=row.decision, reason=row.reason)
