"""Our own API (PROTOCOL.md, section 6)."""
