"""A Python client of Tokenwire, for servers and tests (docs/python-client.md).

It behaves as `web/page/static/tokenwire.js` does. It speaks HTTP (`httpx`) and WebSocket
(`websockets`), and needs nothing of the server's packages but pure modules of `protocol`.
"""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.client, not client")

from tokenwire.client.api import RemoteConversation, Tokenwire
from tokenwire.client.errors import (
    AnswerFailed,
    AnswerRestarted,
    FollowingStopped,
    RequestFailed,
    TokenwireError,
)
from tokenwire.client.following import Change, ConnectionState, Following
from tokenwire.client.transcript import LiveMessage, PostResult, Transcript
from tokenwire.protocol.fold import Part

__all__ = [
    "AnswerFailed",
    "AnswerRestarted",
    "Change",
    "ConnectionState",
    "Following",
    "FollowingStopped",
    "LiveMessage",
    "Part",
    "PostResult",
    "RemoteConversation",
    "RequestFailed",
    "Tokenwire",
    "TokenwireError",
    "Transcript",
]
