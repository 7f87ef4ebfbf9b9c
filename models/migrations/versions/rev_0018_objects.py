"""Checked documents. Nothing is removed: the previous version still works."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the columns."""
    for name in ("misfit", "object"):
        column = sa.Column(name, sa.JSON(none_as_null=True), nullable=True)
        op.add_column(named("messages"), column)
