"""Indexes for the sweeper's queries; deleted conversations are remembered until their log is
deleted too.
"""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column, the table and the indexes."""
    op.add_column(
        named("messages"), sa.Column("starts", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_table(
        named("deleted_conversations"),
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=False),
        sa.Column("log_deleted", sa.Boolean(), nullable=False),
    )
    unfinished = "status IN ('queued', 'streaming', 'retrying', 'waiting')"
    _partial_index("ix_messages_to_cancel", "messages", f"cancel_by IS NOT NULL AND {unfinished}")
    _partial_index("ix_messages_begun", "messages", "status IN ('streaming', 'retrying')")
    _partial_index("ix_conversations_unannounced_rev", "conversations", "announced_rev < rev")
    _partial_index("ix_deleted_conversations_log", "deleted_conversations", "NOT log_deleted")


def _partial_index(name: str, table: str, condition: str) -> None:
    op.create_index(
        named(name),
        named(table),
        ["id"],
        sqlite_where=sa.text(condition),
        postgresql_where=sa.text(condition),
    )
