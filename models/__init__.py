"""SQL: tables, every query, migrations. The truth about conversations and the list of outstanding work."""
