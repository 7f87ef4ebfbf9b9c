"""Clients' names of conversations and messages, regenerated answers, conversations of a single
answer.
"""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns and their indexes."""
    op.add_column(named("conversations"), sa.Column("client_id", sa.String(255), nullable=True))
    op.add_column(
        named("conversations"),
        sa.Column("listed", sa.Boolean(), nullable=False, server_default=sa.text("true")),
    )
    op.add_column(named("messages"), sa.Column("client_id", sa.String(255), nullable=True))
    op.add_column(named("messages"), sa.Column("superseded_by", sa.String(36), nullable=True))
    op.add_column(
        named("messages"), sa.Column("response_schema", sa.JSON(none_as_null=True), nullable=True)
    )
    op.create_index(
        named("ix_conversations_client_id"),
        named("conversations"),
        ["user_id", "client_id"],
        unique=True,
    )
    op.create_index(
        named("ix_messages_client_id"),
        named("messages"),
        ["conversation_id", "client_id"],
        unique=True,
    )
