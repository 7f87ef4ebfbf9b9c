"""Run by alembic: gives it the connection that `models.migrate` opened. Transactions and locks are the caller's."""

from alembic import context
from sqlmodel import SQLModel

import tokenwire.models.tables  # noqa: F401 - importing it fills the metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=SQLModel.metadata, render_as_batch=connection.dialect.name == "sqlite")
context.run_migrations()
