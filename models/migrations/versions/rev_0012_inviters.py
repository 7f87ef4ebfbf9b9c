"""What somebody has invited to is counted along an index."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_invitations_invited_by", "invitations", ["invited_by"])
