"""A conversation, or one message of it, as server-sent events (PROTOCOL.md, section 7)."""
