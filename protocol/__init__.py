"""Pure: what the server, the encoders and the clients must agree on.

Events, how they make an answer and an answer becomes events; cursors, frames, tokens, text.
"""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.protocol, not protocol")
