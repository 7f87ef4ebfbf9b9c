"""SQL: tables, every query, migrations. The truth about conversations and the list of outstanding work."""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.models, not models")
