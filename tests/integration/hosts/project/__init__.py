"""A project with SQLModel and alembic. Its classes, tables and first revision have the names of
ours.
"""
