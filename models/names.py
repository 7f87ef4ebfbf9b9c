"""The names of our tables, indexes and constraints: `TABLE_PREFIX`, then a name.

One helper builds all of them, in `tables.py` and in every migration. So a first migration in a host
application's database never touches a host's table `messages`, and index names, which PostgreSQL
keeps per schema, do not collide either.

`PREFIX` is read when this module is imported. This is the one exception to "settings are read at
the edge of a process and passed down": a table class has its name from its declaration on.
"""

from sqlalchemy import String, column, table

from tokenwire.config.settings import table_prefix

PREFIX = table_prefix()
LONGEST = 63
"""Bytes of a name in PostgreSQL, which cuts longer names off in silence. A test checks all names
with the longest prefix."""


def named(name: str) -> str:
    """The name of a table, index or constraint in the database; also of `table.column`."""
    return PREFIX + name


VERSION = table(named("tokenwire_version"), column("version_num", String))
"""The table of our revision. A table `alembic_version` may belong to the host."""
