"""A user's storage is counted; a response that follows another refers to it.

Existing messages are charged to nobody: reading all of them would block a large database.
"""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns, their indexes and the table of sums. Conversations are counted, since their
    owners are known.
    """
    op.add_column(named("conversations"), sa.Column("follows", sa.String(36), nullable=True))
    op.add_column(named("messages"), sa.Column("charged_to", sa.String(255), nullable=True))
    _partial_index("ix_conversations_follows", "conversations", "follows", "follows IS NOT NULL")
    _partial_index("ix_conversations_unlisted", "conversations", "updated_at", "NOT listed")
    _partial_index(
        "ix_messages_unfinished_of",
        "messages",
        "charged_to",
        "status IN ('queued', 'streaming', 'retrying', 'waiting')",
    )
    op.create_table(
        named("storage"),
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
    )
    size = (
        "length(CAST(instructions AS BLOB))"
        if op.get_bind().dialect.name == "sqlite"
        else "octet_length(instructions)"
    )
    storage, owners = named("storage"), named("conversations")
    op.execute(
        f"INSERT INTO {storage} SELECT user_id, sum(512 + coalesce({size}, 0))"  # noqa: S608
        f" FROM {owners} GROUP BY user_id"
    )


def _partial_index(name: str, table: str, column: str, condition: str) -> None:
    op.create_index(
        named(name),
        named(table),
        [column],
        sqlite_where=sa.text(condition),
        postgresql_where=sa.text(condition),
    )
