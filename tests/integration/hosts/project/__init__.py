"""A project with SQLModel and alembic. Its classes, its tables and its first revision have the
names of ours."""
