"""Other values of an answer, for its own provider."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column."""
    op.add_column(named("messages"), sa.Column("kept", sa.JSON(none_as_null=True), nullable=True))
