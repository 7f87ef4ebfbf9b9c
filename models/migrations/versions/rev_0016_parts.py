"""An answer is an ordered list of parts. Nothing is removed: the previous version still works."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the columns and the tables."""
    messages = named("messages")
    for name in ("parts", "parts_kept"):
        op.add_column(messages, sa.Column(name, sa.JSON(none_as_null=True), nullable=True))
    count = sa.Column("part_count", sa.Integer(), nullable=False, server_default="0")
    op.add_column(messages, count)
    for name in ("open_text", "open_reasoning", "run_parts"):
        op.add_column(messages, sa.Column(name, sa.Integer(), nullable=True))
    op.create_table(
        named("unfinished_parts"),
        _message_id(),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("value", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("kept", sa.JSON(none_as_null=True), nullable=True),
    )
    op.create_table(
        named("part_files"),
        _message_id(),
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("media_type", sa.String(255), nullable=False),
        sa.Column("bytes", sa.LargeBinary(), nullable=False),
    )


def _message_id() -> sa.Column[str]:
    key = sa.ForeignKey(named("messages.id"), ondelete="CASCADE")
    return sa.Column("message_id", sa.String(36), key, primary_key=True)
