"""What somebody has invited to is counted along an index."""

from alembic import op

from tokenwire.models.names import named

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the index."""
    op.create_index(named("ix_invitations_invited_by"), named("invitations"), ["invited_by"])
