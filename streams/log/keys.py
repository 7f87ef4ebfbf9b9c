"""Pure: every name that Tokenwire uses in Redis for conversations. What the keys hold is told in `prelude.lua`."""

CONTROL = "tw:control"
"""Pub/sub channel for worker processes; its messages are `cancel <message_id>`."""

CHANGES = "tw:changes"
"""Pub/sub channel for lists of conversations; its messages are ids of conversations that got a row, a title or an end, or were deleted."""

READY = "tw:ready"
"""What readiness writes, to see whether it can be written."""

SERVER = "tw:server"
"""Which server (`streams.log.redis.RedisLog.new_server`) was noted last by those who look whether it is another one."""


TIME = "tw:time"
"""When the database's clock was noted last here: what a server that was restored or promoted may lack is younger."""


ACCESS = b"access"
"""On the channel of a conversation: who may follow it has changed, look at `revoked`."""


def revoked(conversation_id: str) -> str:
    """Hash of those who take part no more, though they may still hold a token: user id -> Unix ms until when that could be."""
    return f"{channel(conversation_id)}:revoked"


def channel(conversation_id: str) -> str:
    """Pub/sub channel of a conversation. Messages: `<epoch>:<seq>:<stamped event>`, `access`, and `gone` when it was deleted."""
    return f"tw:{{{conversation_id}}}"


def wanted(conversation_id: str) -> str:
    """There for a while after somebody has read an answer that is being made, without following it."""
    return f"{channel(conversation_id)}:wanted"


def keys(conversation_id: str) -> tuple[str, str, str, str, str]:
    """KEYS of every script, in order: log, state, floors, gone, packed. They share a hash tag, so that a Cluster keeps them together."""
    base = channel(conversation_id)
    return f"{base}:log", f"{base}:state", f"{base}:floors", f"{base}:gone", f"{base}:packed"
