"""The HTTP side: the API of PROTOCOL.md, section 6, and the chat page."""
