"""Single answers that a decision may still continue. Nothing is removed: the previous version still
works, and deletes them after a day.
"""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add the column."""
    op.add_column(named("conversations"), sa.Column("kept_until", sa.BigInteger(), nullable=True))
