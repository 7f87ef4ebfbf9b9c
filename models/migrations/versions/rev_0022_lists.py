"""What lists show of a conversation: how many messages it has, when the newest one was added, and
who has archived it. Nothing is removed: the previous version still works, and does not count what
it adds (`python -m tokenwire.models.recount` does).
"""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Add the columns, and count what is there."""
    conversations, messages = named("conversations"), named("messages")
    for column in (
        sa.Column("message_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("last_message_at", sa.BigInteger(), nullable=True),
    ):
        op.add_column(conversations, column)
    archived = sa.Column("archived_at", sa.BigInteger(), nullable=True)
    op.add_column(named("participants"), archived)
    of_it = f"FROM {messages} m WHERE m.conversation_id = {conversations}.id"
    op.execute(
        f"UPDATE {conversations} SET "  # noqa: S608
        f"message_count = (SELECT count(*) {of_it} AND m.superseded_by IS NULL), "
        f"last_message_at = (SELECT max(m.created_at) {of_it})"
    )
