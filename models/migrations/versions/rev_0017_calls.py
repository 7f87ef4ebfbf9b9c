"""Tool calls and decisions about them. Nothing is removed: the previous version still works."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the columns and the tables."""
    for name in ("proven_parts", "rounds", "waits", "calls_rev"):
        column = sa.Column(name, sa.Integer(), nullable=False, server_default="0")
        op.add_column(named("messages"), column)
    op.create_table(
        named("calls"),
        *_of_part(),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("ran_with", sa.Text(), nullable=True),
        sa.Column("runs_at", sa.String(16), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("repeatable", sa.Boolean(), nullable=False),
        sa.Column("key", sa.String(36), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("approval", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    )
    awaited = sa.text("expires_at IS NOT NULL")
    op.create_index(
        named("ix_calls_expires_at"),
        named("calls"),
        ["expires_at", "message_id", "number"],
        sqlite_where=awaited,
        postgresql_where=awaited,
    )
    op.create_table(
        named("decisions"),
        *_of_part(),
        sa.Column("ordinal", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("decision", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("value", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("runs", sa.Integer(), nullable=False),
    )


def _of_part() -> tuple[sa.Column[str], sa.Column[int]]:
    key = sa.ForeignKey(named("messages.id"), ondelete="CASCADE")
    return (
        sa.Column("message_id", sa.String(36), key, primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
    )
