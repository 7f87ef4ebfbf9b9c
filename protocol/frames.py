"""Pure: everything on a WebSocket except events (PROTOCOL.md, section 4).

Control frames as JSON, parsed client frames, the registry of close codes, merged chunks for slow
readers, and the bytes of a frame. broadcaster/session.py decides when any of it is sent.
"""

import struct
from collections.abc import Iterable, Iterator
from enum import Enum, IntEnum
from typing import Literal, NamedTuple, Self

import msgspec

from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.cursors import parse as parse_cursor
from tokenwire.protocol.events import Entry, Sendable
from tokenwire.protocol.text import utf16_length

VERSION = 1
MAX_CLIENT_FRAME_BYTES = 8 * 1024
CONTROLS_PER_MINUTE = 120
"""Pings and pongs: more than any client needs, and few enough to cost nothing."""
MAX_MERGED_BYTES = 64 * 1024
"""No merged frame is longer than this (bytes of JSON)."""

ResyncReason = Literal["trimmed", "epoch", "ahead"]


Step = Literal["reconnect", "token", "resync", "stop"]


class Advice(Enum):
    """What a client does after a close (`then`), and how long it waits at most.

    It waits for a random part of that time, so that clients do not all come at once.
    `within_seconds`: the longest wait if nothing failed before; None: back-off from the first
    failure.
    """

    then: Step
    within_seconds: float | None

    def __init__(self, then: Step, within_seconds: float | None) -> None:
        self.then, self.within_seconds = then, within_seconds

    RECONNECT = "reconnect", 3.0
    BACK_OFF = "reconnect", None
    NEW_TOKEN = "token", 0.0
    RESYNC = "resync", 2.0
    STOP = "stop", 0.0


class CloseCode(IntEnum):
    """Every code with which this service closes a socket, and the advice of each.

    After any other code, a client reconnects with back-off. The Python client does what is said
    here; `vectors/closes` holds other clients to it.
    """

    advice: Advice

    def __new__(cls, code: int, advice: Advice) -> Self:
        """Create a member: an integer with the attribute `advice`."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.advice = advice
        return member

    GOING_AWAY = 1001, Advice.RECONNECT
    RESTART = 1012, Advice.RECONNECT
    OVER_CAPACITY = 1013, Advice.BACK_OFF
    MALFORMED = 4400, Advice.STOP
    UNAUTHORIZED = 4401, Advice.NEW_TOKEN
    FORBIDDEN = 4403, Advice.STOP
    DELETED = 4404, Advice.STOP
    LATE = 4408, Advice.BACK_OFF
    RESYNC = 4410, Advice.RESYNC
    TOO_MANY = 4429, Advice.BACK_OFF


# Client frames


class Malformed(ValueError):
    """An invalid client frame; the text names the mistake and quotes nothing of the frame."""


class Subscribe(NamedTuple):
    """`subscribe`: a token, and the cursor after which to begin (None: from now on)."""

    token: str | None
    after: Cursor | None


class Refresh(NamedTuple):
    """`refresh`: a newer token."""

    token: str | None


class _SubscribeFrame(msgspec.Struct, tag="subscribe", tag_field="type"):
    token: str | None = None
    after: str | None = None


class _RefreshFrame(msgspec.Struct, tag="refresh", tag_field="type"):
    token: str | None = None


_client = msgspec.json.Decoder(_SubscribeFrame | _RefreshFrame)


def parse_client(frame: str | bytes) -> Subscribe | Refresh:
    """Parse a client frame: text, JSON, at most 8 KiB (the connection has counted the bytes).

    Unknown fields are ignored. If a field is repeated, the last one counts. Raises Malformed.
    """
    if isinstance(frame, bytes):
        raise Malformed("binary frame")
    if len(frame) > MAX_CLIENT_FRAME_BYTES:
        raise Malformed("frame over 8 KiB")
    try:
        parsed = _client.decode(frame)
        if isinstance(parsed, _RefreshFrame):
            return Refresh(parsed.token)
        return Subscribe(parsed.token, None if parsed.after is None else parse_cursor(parsed.after))
    except (
        ValueError,
        RecursionError,
    ) as error:  # msgspec's errors are ValueErrors; so are those of cursors and of UTF-8
        raise Malformed("not a subscribe or refresh frame") from error


# Control frames: JSON, `type` first


def subscribed(epoch: str, top: int, heartbeat_seconds: int) -> bytes:
    """The reply to `subscribe`: `top` is the last seq of the log now.

    The connection is dead if the client receives nothing for `heartbeat_seconds`.
    """
    return b'{"type":"subscribed","epoch":"%b","seq":%d,"heartbeat_seconds":%d,"version":%d}' % (
        epoch.encode(),
        top,
        heartbeat_seconds,
        VERSION,
    )


def live(epoch: str, seq: int) -> bytes:
    """The replay is over: nothing up to `seq` is missing, events now come as they happen."""
    return b'{"type":"live","epoch":"%b","seq":%d}' % (epoch.encode(), seq)


def heartbeat(epoch: str, seq: int) -> bytes:
    """Everything up to `seq` was written to this socket, and `seq` is the last event."""
    return b'{"type":"heartbeat","epoch":"%b","seq":%d}' % (epoch.encode(), seq)


def resync(reason: ResyncReason) -> bytes:
    """The cursor cannot be served; the last frame before close 4410."""
    return b'{"type":"resync","reason":"%b"}' % reason.encode()


def refreshed(expires_in: int) -> bytes:
    """The authorisation now lasts `expires_in` seconds."""
    return b'{"type":"refreshed","expires_in":%d}' % expires_in


def text_frame(payload: bytes) -> bytes:
    """A WebSocket frame from server to client (RFC 6455, 5.2: final, text, unmasked)."""
    length = len(payload)
    if length < 126:
        return b"\x81%c%b" % (length, payload)
    if length < 65536:
        return struct.pack("!BBH", 0x81, 126, length) + payload
    return struct.pack("!BBQ", 0x81, 127, length) + payload


# Merging, for readers that fell behind


class _Mergeable(msgspec.Struct, forbid_unknown_fields=True):
    # A chunk with an unknown field must keep it: it is not merged, and is sent as it is.
    seq: int
    type: Literal["chunk", "reasoning", "tool_input"]
    message_id: str
    attempt: int
    offset: int
    content: str
    part: int


class _Merged(msgspec.Struct):
    seq: int
    from_seq: int
    type: str
    message_id: str
    attempt: int
    offset: int
    content: str
    part: int


_piece = msgspec.json.Decoder(_Mergeable)
_encode = msgspec.json.Encoder().encode


class _MergeRun:
    # Pieces that can be merged: of one message, attempt, type and part, without a gap in seq or
    # text.
    def __init__(self, entry: Sendable, piece: _Mergeable) -> None:
        self.entry, self.first, self.seq = entry, piece, piece.seq
        self.texts = [piece.content]
        self.bytes = len(entry.data)
        self.end = piece.offset + utf16_length(piece.content)

    def take(self, entry: Sendable, piece: _Mergeable) -> bool:
        first = self.first
        if (
            piece.seq != self.seq + 1
            or piece.offset != self.end
            or self.bytes + len(entry.data) > MAX_MERGED_BYTES
            or piece.part != first.part
            or (piece.type, piece.message_id, piece.attempt)
            != (first.type, first.message_id, first.attempt)
        ):
            return False
        self.seq = piece.seq
        self.texts.append(piece.content)
        self.bytes += len(entry.data)
        self.end += utf16_length(piece.content)
        return True

    def close(self) -> Sendable:
        if len(self.texts) == 1:
            return self.entry
        first = self.first
        merged = _Merged(
            self.seq,
            first.seq,
            first.type,
            first.message_id,
            first.attempt,
            first.offset,
            "".join(self.texts),
            first.part,
        )
        return Entry(self.seq, _encode(merged))


def merge(entries: Iterable[Sendable]) -> Iterator[Sendable]:
    """Merge neighbouring chunks into events of at most 64 KiB.

    `seq` of a merged event is the last seq, `from_seq` the first.

    Events are merged if their seqs are consecutive, their type (`chunk`, `reasoning`,
    `tool_input`), message, attempt and part are the same, and their offsets adjoin. All other
    events pass byte for byte. Lazy: unused results cost nothing.
    """
    run: _MergeRun | None = None
    for entry in entries:
        piece = _piece_of(entry)
        if run is not None:
            if piece is not None and run.take(entry, piece):
                continue
            yield run.close()
        run = None if piece is None else _MergeRun(entry, piece)
        if piece is None:
            yield entry
    if run is not None:
        yield run.close()


def _piece_of(entry: Sendable) -> _Mergeable | None:
    try:
        return _piece.decode(entry.data)
    except msgspec.DecodeError:
        return None
