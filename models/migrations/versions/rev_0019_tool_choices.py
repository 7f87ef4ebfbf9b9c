"""Which tools an answer may use, steering, and the schema of a conversation. Nothing is removed:
the previous version still works.
"""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the columns."""
    for table, name in (
        ("messages", "tools"),
        ("conversations", "tools"),
        ("conversations", "response_schema"),
    ):
        column = sa.Column(name, sa.JSON(none_as_null=True), nullable=True)
        op.add_column(named(table), column)
    for name, length in (("while_running", 16), ("steers", 36)):
        op.add_column(named("messages"), sa.Column(name, sa.String(length), nullable=True))
