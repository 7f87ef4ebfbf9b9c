"""Run by alembic: hands it the connection that `models.migrate` opened. Transactions and locks are
the caller's."""

from alembic import context

from tokenwire.models.names import VERSION
from tokenwire.models.tables import Table

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Table.metadata,
    version_table=VERSION.name,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
