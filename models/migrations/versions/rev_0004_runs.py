"""Runs that continue at a provider, and the billed tokens of an answer's requests."""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table and the column."""
    op.add_column(named("messages"), sa.Column("billed_input", sa.BigInteger(), nullable=True))
    op.create_table(
        named("provider_runs"),
        sa.Column("message_id", sa.String(36), nullable=False),
        sa.Column("run_id", sa.String(255), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "run_id"),
    )
    op.create_index(named("ix_provider_runs_due_at"), named("provider_runs"), ["due_at"])
