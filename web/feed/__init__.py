"""A user's list of conversations, live (PROTOCOL.md, section 7)."""
