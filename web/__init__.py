"""The HTTP side: the API of PROTOCOL.md, section 6, and the chat page."""

if not __name__.startswith("tokenwire."):
    # A bare import would create a second copy of every class.
    raise ImportError("import tokenwire.web, not web")
