"""Deaths of workers are counted apart from tries."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the column."""
    op.add_column(
        named("messages"), sa.Column("deaths", sa.Integer(), nullable=False, server_default="0")
    )
