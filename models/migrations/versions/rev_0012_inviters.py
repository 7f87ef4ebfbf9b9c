"""An index to count a user's invitations."""

from alembic import op

from tokenwire.models.names import named

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the index."""
    op.create_index(named("ix_invitations_invited_by"), named("invitations"), ["invited_by"])
