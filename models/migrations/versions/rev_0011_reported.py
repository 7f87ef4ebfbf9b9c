"""The reported tokens of all requests of an answer, and their number."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns."""
    op.add_column(
        named("messages"), sa.Column("requests", sa.Integer(), nullable=False, server_default="0")
    )
    op.add_column(
        named("messages"), sa.Column("reported", sa.JSON(none_as_null=True), nullable=True)
    )
