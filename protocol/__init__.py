"""Pure: what the server, the encoders and the clients must agree on. Events, cursors, frames, tokens, text."""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.protocol, not protocol")
