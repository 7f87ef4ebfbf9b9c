"""The log of a conversation, the hub of a process, and limits: for worker, broadcaster and web."""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.streams, not streams")
