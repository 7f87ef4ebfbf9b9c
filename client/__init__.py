"""A Python client of Tokenwire, for servers and tests: it behaves as `web/static/tokenwire.js` does. docs/python-client.md shows it.

It speaks HTTP (`httpx`) and WebSocket (`websockets`), and needs nothing of the server's packages but pure modules of `streams` (positions,
text, growing).
"""

from client.api import Conversation, Posted, Tokenwire
from client.errors import AnswerFailed, AnswerRestarted, RequestFailed, Stopped, TokenwireError
from client.following import Change, Following, State
from client.transcript import Message, Transcript

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
