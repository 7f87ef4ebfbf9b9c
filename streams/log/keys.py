"""Pure: the names of all Redis keys of conversations. `prelude.lua` describes their contents."""

PREFIX = "tw2"
"""2 is the version of the stored data: events of version 1 had no parts."""

CONTROL = f"{PREFIX}:control"
"""Pub/sub channel for worker processes; its messages are `cancel <message_id>`."""

CHANGES = f"{PREFIX}:changes"
"""Pub/sub channel for conversation lists; messages are ids of conversations with a new row, title
or end, or deleted ones.
"""

READY = f"{PREFIX}:ready"
"""The readiness check writes it, to test that writes work."""

TOOLS = f"{PREFIX}:tools"
"""Sorted set of the names of workers' tools (`streams/tool_names.py`), by Redis' seconds."""

SERVER = f"{PREFIX}:server"
"""The last noted server (`streams.log.redis.RedisLog.new_server`), to notice another one."""


TIME = f"{PREFIX}:time"
"""The last noted time of the database's clock.

A restored or promoted server lacks only what was written after it.
"""


ACCESS = b"access"
"""Message on a conversation's channel: who may read it has changed; read `revoked`."""


def revoked(conversation_id: str) -> str:
    """Hash of removed users who may still hold a token: user id -> Unix ms until which it may be
    valid.
    """
    return f"{channel(conversation_id)}:revoked"


def channel(conversation_id: str) -> str:
    """Pub/sub channel of a conversation. Messages: `<epoch>:<seq>:<stamped event>`, `access`, and
    `gone` at its deletion.
    """
    return f"{PREFIX}:{{{conversation_id}}}"


def wanted(conversation_id: str) -> str:
    """Exists for a while after an unfinished answer was read without following it."""
    return f"{channel(conversation_id)}:wanted"


def keys(conversation_id: str) -> tuple[str, str, str, str, str]:
    """KEYS of every script, in order: log, state, floors, gone, packed. Their common hash tag keeps
    them together in a Cluster.
    """
    base = channel(conversation_id)
    return f"{base}:log", f"{base}:state", f"{base}:floors", f"{base}:gone", f"{base}:packed"
