"""For a host application that keeps its tables in the same database and writes its migrations with
alembic (docs/host-database.md)."""

from collections.abc import Mapping

from tokenwire.models.names import VERSION
from tokenwire.models.tables import Table

_TABLES = frozenset({*Table.metadata.tables, str(VERSION.name)})


def include_name(name: str | None, type_: str, parent_names: Mapping[str, str | None]) -> bool:
    """False for our tables: what alembic's `include_name` asks of every name in the database.

    `alembic revision --autogenerate` compares the database with the host's own models. It finds no
    model for our tables there, and would write a migration that drops them.
    """
    ours = type_ == "table" and name in _TABLES
    return not ours or parent_names.get("schema_name") is not None
