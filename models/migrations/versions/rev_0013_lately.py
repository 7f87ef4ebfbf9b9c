"""Recent changes are found by an index, and late checkpoints are recognised."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the columns and the indexes."""
    op.add_column(named("messages"), sa.Column("ended_at", sa.BigInteger(), nullable=True))
    op.add_column(
        named("messages"), sa.Column("saves", sa.Integer(), nullable=False, server_default="0")
    )
    _index("ix_messages_ended", "messages", "ended_at", "ended_at IS NOT NULL")
    _index("ix_conversations_renamed", "conversations", "updated_at", "rev > 1")
    _index("ix_deleted_conversations_deleted_at", "deleted_conversations", "deleted_at")
    _index("ix_revocations_revoked_at", "revocations", "revoked_at")


def _index(name: str, table: str, when: str, condition: str | None = None) -> None:
    where = None if condition is None else sa.text(condition)
    op.create_index(
        named(name), named(table), [when, "id"], sqlite_where=where, postgresql_where=where
    )
