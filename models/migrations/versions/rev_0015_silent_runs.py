"""How long a run has been silent: a run is attached to for as long as it may be."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the column."""
    op.add_column(named("messages"), sa.Column("run_silent_since", sa.BigInteger()))
