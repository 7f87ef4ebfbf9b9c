"""The history of the schema (alembic). `HEAD` is the newest revision: what a process of this version needs.

Written down here so that web and worker can compare it without loading alembic; a test keeps it equal to the scripts.
"""

HEAD = "0005"
