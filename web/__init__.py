"""The HTTP side: the API of PROTOCOL.md, section 6, and the chat page."""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.web, not web")
