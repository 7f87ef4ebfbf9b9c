"""A project with SQLModel and alembic: its classes and tables have the names of ours, its first revision too."""
