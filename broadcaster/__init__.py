"""The relay: WebSocket readers on one side, the logs of their conversations on the other.

`session` decides; the rest moves bytes.
"""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.broadcaster, not broadcaster")
