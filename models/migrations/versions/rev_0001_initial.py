"""Conversations, participants, messages, idempotency keys."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0001"
down_revision = None

_UNFINISHED = sa.text("status IN ('queued', 'streaming', 'retrying', 'waiting')")
_UNANNOUNCED_END = sa.text(
    "role = 'assistant' AND NOT terminal_announced AND NOT status IN ('queued', 'streaming', "
    "'retrying', 'waiting')"
)
_UNANNOUNCED_REV = sa.text("announced_rev < rev")


def upgrade() -> None:
    """Create the tables."""
    _create_conversations()
    _create_messages()
    _create_idempotency_keys()


def _create_conversations() -> None:
    op.create_table(
        named("conversations"),
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("title", sa.String(), nullable=True),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("instructions", sa.Text(), nullable=True),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("announced_rev", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        named("participants"),
        sa.Column(
            "conversation_id",
            sa.String(36),
            sa.ForeignKey(named("conversations.id"), ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("user_id", sa.String(255), primary_key=True),
    )
    op.create_index(named("ix_participants_user_id"), named("participants"), ["user_id"])


def _create_messages() -> None:
    op.create_table(
        named("messages"),
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column(
            "conversation_id",
            sa.String(36),
            sa.ForeignKey(named("conversations.id"), ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("reasoning", sa.Text(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.String(32), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("started_with", sa.Integer(), nullable=False),
        sa.Column("run_id", sa.String(255), nullable=True),
        sa.Column("run_cursor", sa.BigInteger(), nullable=True),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("announced_rev", sa.Integer(), nullable=False),
        sa.Column("terminal_announced", sa.Boolean(), nullable=False),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("finish_reason", sa.String(32), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("usage", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("seams", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("tool_calls", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("attachments", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("user_id", sa.String(255), nullable=True),
        sa.Column("parent_id", sa.String(36), nullable=True),
        sa.Column("cancel_by", sa.String(255), nullable=True),
        sa.Column("enqueued_at", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("conversation_id", "ordinal"),
    )
    op.create_index(
        named("ix_messages_unfinished"),
        named("messages"),
        ["conversation_id", "ordinal"],
        sqlite_where=_UNFINISHED,
        postgresql_where=_UNFINISHED,
    )
    for name, condition in (("end", _UNANNOUNCED_END), ("rev", _UNANNOUNCED_REV)):
        op.create_index(
            named(f"ix_messages_unannounced_{name}"),
            named("messages"),
            ["id"],
            sqlite_where=condition,
            postgresql_where=condition,
        )


def _create_idempotency_keys() -> None:
    op.create_table(
        named("idempotency_keys"),
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("route", sa.String(255), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("made", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        named("ix_idempotency_keys_created_at"), named("idempotency_keys"), ["created_at"]
    )
