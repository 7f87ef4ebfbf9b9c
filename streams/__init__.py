"""Shared by worker, broadcaster, web and clients: events, cursors, the log, the hub, tokens,
frames.
"""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.streams, not streams")
