"""Parameters of all answers of a conversation. Nothing is removed: the previous version still
works, and asks without them.
"""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Add the column."""
    column = sa.Column("options", sa.JSON(none_as_null=True), nullable=True)
    op.add_column(named("conversations"), column)
