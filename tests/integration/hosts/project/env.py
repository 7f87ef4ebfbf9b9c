"""As `alembic init` writes it. KEEP_OURS adds the lines of docs/host-database.md."""

import os

from alembic import context
from sqlalchemy import create_engine
from sqlmodel import SQLModel

import tests.integration.hosts.project.tables  # noqa: F401 - fills the metadata
from tokenwire.models.hosts import include_name

options = {"include_name": include_name} if os.environ.get("KEEP_OURS") else {}
engine = create_engine(context.config.get_main_option("sqlalchemy.url") or "")
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=SQLModel.metadata, **options)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
