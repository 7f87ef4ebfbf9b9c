"""SQL: tables, every query, migrations. The source of truth for conversations and outstanding
work.
"""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.models, not models")
