"""Open invitations to conversations."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        named("invitations"),
        sa.Column(
            "conversation_id",
            sa.String(36),
            sa.ForeignKey(named("conversations.id"), ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("invited_by", sa.String(255), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_index(named("ix_invitations_user_id"), named("invitations"), ["user_id"])
