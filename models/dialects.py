"""What SQLAlchemy has separately for each database, under one name."""

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel


def insert(session: AsyncSession, table: type[SQLModel]) -> Any:
    """An INSERT with ON CONFLICT (`on_conflict_do_nothing`, `on_conflict_do_update`)."""
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    return sqlite.insert(table) if is_sqlite else postgresql.insert(table)
