"""Pure: events as server-sent events (the text/event-stream format of the HTML standard), as in
PROTOCOL.md, section 7.

An event is `id: <epoch>:<seq>` and `data: <the event, byte for byte>`; there is no `event:` line,
since an `error` event must not look like a transport error. Blocks outside of the log (`resync`,
`deleted`) have no id, so that a client's cursor stays. A block with only an `id:` moves the
client's cursor and is no event for it. The caller decides when any of it is sent.
"""

from collections.abc import Callable, Iterable

import msgspec

from tokenwire.protocol import frames
from tokenwire.protocol.cursors import Cursor, parse
from tokenwire.protocol.events import Sendable
from tokenwire.protocol.frames import ResyncReason, merge

EncodeBlock = Callable[[str, Sendable], bytes]
"""Gives the block of one event of an epoch."""


def opening(retry_ms: int, begins: Cursor | None = None) -> bytes:
    """The beginning of a stream, visible to proxies and clients.

    `retry_ms`: when to reconnect after the end. `begins`: the cursor of a reader without its own.
    """
    line = f"id: {begins}\n" if begins else ""
    return f": tokenwire\nretry: {retry_ms}\n{line}\n".encode()


def event(epoch: str, entry: Sendable) -> bytes:
    """The block of one event. Its JSON holds no line breaks: encoders escape them."""
    return b"id: %b:%d\ndata: %b\n\n" % (epoch.encode(), entry.seq, entry.data)


def notice(data: bytes) -> bytes:
    """A block outside of the log: it has no id."""
    return b"data: %b\n\n" % data


def resync(reason: ResyncReason) -> bytes:
    """The cursor cannot be served; only comments follow."""
    return notice(frames.resync(reason))


def deleted() -> bytes:
    """The conversation was deleted; the stream ends."""
    return notice(b'{"type":"deleted"}')


def comment(text: str, moved: Cursor | None = None) -> bytes:
    """A sign of life that clients do not see; their cursor becomes `moved`."""
    line = f"id: {moved}\n" if moved else ""
    return f": {text}\n{line}\n".encode()


def cursor(last_event_id: str | None, after: str | None) -> Cursor | None:
    """The client's cursor: `Last-Event-ID` comes before `after`; an empty one counts as absent.

    Raises ValueError for a malformed cursor.
    """
    text = last_event_id or after
    return parse(text) if text else None


class _RowHead(msgspec.Struct):
    id: str | None = None


class _About(msgspec.Struct):
    message_id: str | None = None
    message: _RowHead | None = None


_about = msgspec.json.Decoder(_About)


def concerns(data: bytes, message_id: str) -> bool:
    """Whether a stamped event is about this message: its answer, or its row."""
    about = _about.decode(data)
    return about.message_id == message_id or (
        about.message is not None and about.message.id == message_id
    )


class EventEncoder:
    """The text for one reader. `message_id`: leave out other messages. `block` may cache blocks for
    other readers.
    """

    def __init__(self, message_id: str | None = None, block: EncodeBlock = event) -> None:
        self._message_id = message_id
        self._block = block
        self._sent: Cursor | None = None

    def opening(self, retry_ms: int, begins: Cursor | None) -> bytes:
        """The beginning of a stream."""
        self._sent = begins
        return opening(retry_ms, begins)

    def events(self, epoch: str, entries: Iterable[Sendable], *, merged: bool = False) -> bytes:
        """The blocks of these events; `merged`: neighbouring chunks become one, for a slow
        reader.
        """
        wanted = self._message_id
        if wanted is not None:
            entries = [entry for entry in entries if concerns(entry.data, wanted)]
        blocks, last = list[bytes](), 0
        for entry in merge(entries) if merged else entries:
            blocks.append(self._block(epoch, entry))
            last = entry.seq
        if blocks:
            self._sent = Cursor(epoch, last)
        return b"".join(blocks)

    def heartbeat(self, reached: Cursor | None) -> bytes:
        """A comment; a reader without news for a while, since nothing concerned it, still gets its
        cursor moved.
        """
        if reached is None or reached == self._sent:
            return comment("heartbeat")
        self._sent = reached
        return comment("heartbeat", reached)
