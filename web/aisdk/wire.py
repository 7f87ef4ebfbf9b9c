"""Pure: chunks as the bytes of a response: server-sent events with one chunk each, and `[DONE]` at
the end.

The AI SDK reads only `data`. An `id:` is for clients that resume by cursor, a comment keeps a
connection open; an event with other data would end the stream.
"""

import re
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)

from tokenwire.web.aisdk.values import Misuse, UIChunk, dumps
from tokenwire.web.http import sse

HEADERS: Mapping[str, str] = {**sse.HEADERS, "X-Vercel-AI-UI-Message-Stream": "v1"}
"""Headers of a response with the stream."""
_NO_ID = re.compile("[\r\n\0]")
DONE = b"data: [DONE]\n\n"

Output = Sequence[UIChunk] | bytes
"""What an application yields: chunks of `Writer`, or bytes that are frames already (`comment`,
`frames` with an id).
"""


def frames(chunks: Sequence[UIChunk], event_id: str | None = None) -> bytes:
    """The chunks as events. `event_id` goes with the last one: its reader has seen them all. Misuse
    for an id with a line break.
    """
    if not chunks:
        return b""
    encoded = [b"data: " + dumps(chunk) + b"\n\n" for chunk in chunks]
    if event_id is not None:
        if _NO_ID.search(event_id):
            raise Misuse("an id is one line")
        encoded[-1] = b"id: " + event_id.encode() + b"\n" + encoded[-1]
    return b"".join(encoded)


def comment(text: str = "") -> bytes:
    """A line that every client ignores: a heartbeat."""
    return b"".join(b": " + line.encode() + b"\n" for line in text.splitlines() or [""]) + b"\n"


def body(
    items: Iterable[Output], on_error: Callable[[Exception], str] | None = None
) -> Iterator[bytes]:
    """The body of a response, built while it is read, ending with `[DONE]`.

    `on_error`: the text of an `error` chunk for an exception of `items`; without it the exception
    is raised, and the client sees a broken connection.
    """
    try:
        for item in items:
            if encoded := _encoded(item):
                yield encoded
    except Exception as error:
        if on_error is None:
            raise
        yield _error_frame(on_error(error))
    yield DONE


async def abody(
    items: AsyncIterable[Output], on_error: Callable[[Exception], str] | None = None
) -> AsyncIterator[bytes]:
    """`body` over an asynchronous source."""
    try:
        async for item in items:
            if encoded := _encoded(item):
                yield encoded
    except Exception as error:
        if on_error is None:
            raise
        yield _error_frame(on_error(error))
    yield DONE


def _encoded(item: Output) -> bytes:
    return item if isinstance(item, bytes) else frames(item)


def _error_frame(text: str) -> bytes:
    return frames([{"type": "error", "errorText": text}])
