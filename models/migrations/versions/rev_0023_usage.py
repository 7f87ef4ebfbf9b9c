"""What users' answers have used and cost, by day and model. It begins empty: what ended before is
not added up, because it knows no prices.
"""

import sqlalchemy as sa
from alembic import op

from tokenwire.models.names import named

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Create the table."""
    numbers = ("answers", "estimated", "unpriced")
    large = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    op.create_table(
        named("usage_days"),
        sa.Column("user_id", sa.String(255), primary_key=True),
        sa.Column("day", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("model", sa.String(255), primary_key=True),
        *(_sum(name, sa.Integer()) for name in numbers),
        *(_sum(name, sa.BigInteger()) for name in (*large, "cache_write_tokens", "cost")),
    )


def _sum(name: str, kind: sa.types.TypeEngine[int]) -> sa.Column[int]:
    return sa.Column(name, kind, nullable=False, server_default="0")
