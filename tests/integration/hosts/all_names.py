"""Migrates a database and prints all our names in it: `python -m tests.integration.hosts.all_names
DATABASE_URL`.
"""

import sys

from sqlalchemy import create_engine, inspect

from tokenwire.models.engines import driver_url
from tokenwire.models.migrate import migrate


def main(url: str) -> None:
    """Print tables, indexes, constraints."""
    migrate(url)
    found = inspect(create_engine(driver_url(url, asynchronous=False)))
    for table in found.get_table_names():
        keys = [
            *found.get_indexes(table),
            *found.get_unique_constraints(table),
            *found.get_foreign_keys(table),
        ]
        sys.stdout.write(
            "\n".join([table, *(key["name"] for key in keys if key["name"] is not None), ""])
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
