"""The encoder of AI SDK streams for any Python web app: it needs only Python. docs/ai-sdk.md
explains it.
"""

from tokenwire.web.aisdk import (
    DONE,
    HEADERS,
    Misuse,
    Profile,
    UIChunk,
    Writer,
    abody,
    body,
    comment,
    frames,
)

__all__ = [
    "DONE",
    "HEADERS",
    "Misuse",
    "Profile",
    "UIChunk",
    "Writer",
    "abody",
    "body",
    "comment",
    "frames",
]
