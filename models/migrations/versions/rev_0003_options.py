"""Further fields of an answer's request."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns."""
    op.add_column(
        named("messages"), sa.Column("options", sa.JSON(none_as_null=True), nullable=True)
    )
    op.add_column(named("messages"), sa.Column("asked", sa.JSON(none_as_null=True), nullable=True))
