"""Parameters of all answers of a conversation, and models that took another one's place. Nothing is
removed: the previous version still works, asks without the parameters, and stays with a model.
"""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Add the columns."""
    options = sa.Column("options", sa.JSON(none_as_null=True), nullable=True)
    op.add_column(named("conversations"), options)
    op.add_column(named("messages"), sa.Column("first_model", sa.String(), nullable=True))
