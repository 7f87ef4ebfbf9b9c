"""A Python client of Tokenwire, for servers and tests: it behaves as `web/page/static/tokenwire.js` does. docs/python-client.md shows it.

It speaks HTTP (`httpx`) and WebSocket (`websockets`), and needs nothing of the server's packages but pure modules of `protocol` (cursors,
text, what is sent).
"""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.client, not client")

from tokenwire.client.api import PostResult, RemoteConversation, Tokenwire
from tokenwire.client.errors import (
    AnswerFailed,
    AnswerRestarted,
    FollowingStopped,
    RequestFailed,
    TokenwireError,
)
from tokenwire.client.following import Change, ConnectionState, Following
from tokenwire.client.transcript import LiveMessage, Transcript

__all__ = [
    "AnswerFailed",
    "AnswerRestarted",
    "Change",
    "ConnectionState",
    "Following",
    "FollowingStopped",
    "LiveMessage",
    "PostResult",
    "RemoteConversation",
    "RequestFailed",
    "Tokenwire",
    "TokenwireError",
    "Transcript",
]
