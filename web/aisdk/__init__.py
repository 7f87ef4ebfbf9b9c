"""The UI message stream of the AI SDK (`ai` 5, 6 and 7), which `useChat`, `useCompletion` and
their transports read.

`Writer` creates chunks and keeps the rules of their order; `body` and `abody` turn them into the
bytes of a response:

    def answer():
        write = Writer()
        yield write.start("message-1")
        for token in tokens:
            yield write.text(token)
        yield write.finish("stop")

    return StreamingResponse(body(answer()), headers=HEADERS)

These three modules (`values`, `writer`, `wire`) need only Python and can be used without the rest
of Tokenwire. `encoder` maps the events of a log to chunks, `messages` stored rows to UI messages.
Written for ai 5.0.100 to 7.0.173; docs/ai-sdk.md explains.
"""

from tokenwire.web.aisdk.values import Misuse, Profile, UIChunk
from tokenwire.web.aisdk.wire import DONE, HEADERS, abody, body, comment, frames
from tokenwire.web.aisdk.writer import Writer

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
