"""The contract between worker, broadcaster, web and the clients: events, cursors, the log, the hub, tokens, frames."""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.streams, not streams")
