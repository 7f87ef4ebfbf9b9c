"""The relay: readers on WebSockets, the logs of their conversations on the other side.

`session` decides; the rest moves bytes.
"""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.broadcaster, not broadcaster")
