"""The relay between WebSocket readers and the logs of their conversations.

`session` decides; the rest moves bytes.
"""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.broadcaster, not broadcaster")
