"""The relay: viewers on WebSockets, the logs of their conversations on the other side. `session` decides; the rest moves bytes."""
