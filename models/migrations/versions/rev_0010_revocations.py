"""Removed participants are remembered while a token of theirs may be valid."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        named("revocations"),
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column(
            "conversation_id",
            sa.String(36),
            sa.ForeignKey(named("conversations.id"), ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.UniqueConstraint("conversation_id", "user_id", name=named("uq_revocations_user")),
    )
    untold = sa.text("NOT told")
    op.create_index(
        named("ix_revocations_untold"),
        named("revocations"),
        ["id"],
        sqlite_where=untold,
        postgresql_where=untold,
    )
