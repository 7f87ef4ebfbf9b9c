"""How much of an answer lies before the cursor in its provider's run."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns."""
    op.add_column(named("messages"), sa.Column("run_text", sa.Integer(), nullable=True))
    op.add_column(named("messages"), sa.Column("run_reasoning", sa.Integer(), nullable=True))
