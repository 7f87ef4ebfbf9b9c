"""A Python client of Tokenwire, for servers and tests: it behaves as `web/static/tokenwire.js` does. docs/python-client.md shows it.

It speaks HTTP (`httpx`) and WebSocket (`websockets`), and needs nothing of the server's packages but pure modules of `streams` (positions,
text, growing).
"""

if not __name__.startswith("tokenwire."):
    # A second copy of every class would follow, and none of them would fit the first.
    raise ImportError("import tokenwire.client, not client")

from tokenwire.client.api import Conversation, Posted, Tokenwire
from tokenwire.client.errors import AnswerFailed, AnswerRestarted, RequestFailed, Stopped, TokenwireError
from tokenwire.client.following import Change, Following, State
from tokenwire.client.transcript import Message, Transcript

__all__ = [
    "AnswerFailed",
    "AnswerRestarted",
    "Change",
    "Conversation",
    "Following",
    "Message",
    "Posted",
    "RequestFailed",
    "State",
    "Stopped",
    "Tokenwire",
    "TokenwireError",
    "Transcript",
]
