"""The relay: readers on WebSockets, the logs of their conversations on the other side.

`session` decides; the rest moves bytes.
"""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.broadcaster, not broadcaster")
