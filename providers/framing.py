"""Pure: bytes -> frames. One bounded parser for server-sent events, JSON lines and streamed JSON
arrays.

Lines end only at "\\n" (one "\\r" before it is dropped): U+0085, U+2028 and form feeds are text
inside JSON. A frame is a pair of bytes (kind, data). The kind is the name of the SSE event (may be
empty), `RAW` for a JSON object outside of SSE fields (JSON lines, Gemini's arrays, bare errors,
whole bodies), or `STRAY` for anything else outside of them. Servers that omit the last blank line,
repeat ids, send comments, or use the unknown field `error:` are understood. The dialects interpret
the frames.

Guarantees: the frames do not depend on how the network cuts the bytes.

Rejected: a general line reader (it also splits at U+2028, inside a JSON text).
"""

import re

from tokenwire.providers.amount import MAX_VALUES, TooMuch

Frame = tuple[bytes, bytes]
RAW = b"\n"
"""The kind of a JSON object outside of SSE fields; cannot be an event's name."""
STRAY = b"\n\n"
"""The kind of other text outside of SSE fields: a page, or a piece whose beginning is lost."""
MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_LINES = 10_000
"""Limit of `data:` lines in an event and of objects in a line. Some servers omit blank lines
between events.
"""
TAIL_BYTES = 4096

_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BETWEEN_BRACES = re.compile(rb'[^{}"]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^{}"]*+)*+', re.DOTALL)
"""Whole strings, and the text around them."""
_BOM = b"\xef\xbb\xbf"


class FrameTooLarge(TooMuch):
    """An event, line or object is longer than the limit, or holds too much."""


class Framer:
    """Incremental parser: `feed` the input in any pieces; `close` at the end of the body."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._limit = max_frame_bytes
        self._held = bytearray()
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0
        self._json = JsonSplitter(max_frame_bytes)
        self._started = False

    @property
    def tail(self) -> bytes:
        """The beginning of text outside of SSE and JSON, for error messages (an HTML page, an
        unfinished object).
        """
        return (self._json.rubbish + self.unfinished)[:TAIL_BYTES]

    @property
    def unfinished(self) -> bytes:
        """The object outside of SSE fields that has begun and not ended."""
        return self._json.unfinished

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes. Raises FrameTooLarge."""
        if self._is_one_event(data):
            return [(b"", data[6:-2])]
        end = data.rfind(b"\n")
        if end < 0:
            self._buffer(data)
            return []
        head = data[:end]
        if self._held:
            head = bytes(self._held + head)
            self._held.clear()
        if end + 1 < len(data):
            self._buffer(data[end + 1 :])
        return self._lines(head)

    def close(self) -> list[Frame]:
        """The frames that the end of the body completes: a last line without "\\n", a last event
        without its blank line.
        """
        last = bytes(self._held)
        self._held.clear()
        frames = self._lines(last) if last else []
        self._dispatch(frames)
        return frames

    def _is_one_event(self, data: bytes) -> bool:
        # A paced stream brings one event per read; this decides its cost.
        size = len(data) - 2
        return (
            data.find(b"\n") == size
            and data.startswith(b"data: ")
            and data.endswith(b"\n\n")
            and not (self._held or self._data or self._name)
            and size <= self._limit
        )

    def _buffer(self, piece: bytes) -> None:
        if len(self._held) + len(piece) > self._limit:
            raise FrameTooLarge(f"a line is longer than {self._limit} bytes")
        self._held += piece

    def _lines(self, head: bytes) -> list[Frame]:
        if not self._started:
            self._started = True
            head = head.removeprefix(_BOM)
        frames: list[Frame] = []
        for line in head.split(b"\n"):
            if line.startswith(b"data: "):
                # The hot path: nearly every line of every provider.
                self._add(line[6:-1] if line.endswith(b"\r") else line[6:])
            else:
                self._other(line.removesuffix(b"\r"), frames)
        return frames

    def _other(self, line: bytes, frames: list[Frame]) -> None:
        if not line:
            self._dispatch(frames)
            return
        if line.startswith(b":"):
            return
        field, colon, value = line.partition(b":")
        if colon:
            value = value.removeprefix(b" ")
            if field == b"data":
                self._add(value)
                return
            if field == b"event":
                self._name = value
                return
            if field in (b"id", b"retry"):
                return
            if field == b"error":
                frames.append((b"error", value))
                return
        found = self._json.feed(line + b"\n")
        if found and self._data:
            self._dispatch(frames)  # it came before these objects
        frames += found

    def _add(self, value: bytes) -> None:
        self._size += len(value) + 1  # an empty line counts, too
        if self._size > self._limit:
            raise FrameTooLarge(f"an event is longer than {self._limit} bytes")
        if len(self._data) >= MAX_LINES:
            raise FrameTooLarge(f"an event has more than {MAX_LINES} lines")
        self._data.append(value)

    def _dispatch(self, frames: list[Frame]) -> None:
        # An event without data is ignored (a comment between blank lines, only an `id:`).
        if self._data:
            data = self._data
            frames.append((self._name, data[0] if len(data) == 1 else b"\n".join(data)))
            self._data = []
            self._size = 0
        self._name = b""


class JsonSplitter:
    """Cuts JSON objects out of bytes in pieces; text between the objects is kept apart, bounded."""

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._limit = max_bytes
        self._held = bytearray()
        self._depth = 0
        self._string = False
        self._escape = False
        self.rubbish = b""

    @property
    def unfinished(self) -> bytes:
        """The object that has begun and not ended."""
        return bytes(self._held)

    def feed(self, data: bytes) -> list[Frame]:
        """The objects that `data` completes (`RAW`), and the text between them (`STRAY`). Raises
        FrameTooLarge.
        """
        found: list[Frame] = []
        start = at = braces = 0
        while True:
            hit = self._next(data, at)
            if hit < 0:
                break
            at = hit + 1
            braces += 1
            if braces > 2 * MAX_VALUES:
                raise FrameTooLarge(f"a line holds more than {MAX_VALUES} objects")
            if data[hit] == 0x7B:  # {
                if self._depth == 0:
                    self._discard(data[start:hit], found)
                    start = hit
                self._depth += 1
            elif data[hit] == 0x7D and self._depth:  # }
                self._depth -= 1
                if self._depth == 0:
                    found.append((RAW, bytes(self._held + data[start:at])))
                    if len(found) > MAX_LINES:
                        raise FrameTooLarge(f"a line holds more than {MAX_LINES} answers")
                    self._held.clear()
                    start = at
        self._keep(data[start:], found)
        return found

    def _next(self, data: bytes, at: int) -> int:
        """The index of the next brace outside of strings, or -1; follows strings and escapes."""
        if not self._depth:
            return data.find(
                b"{", at
            )  # a quote outside of objects is rubbish, not the start of a string
        if self._string:
            at = self._string_end(data, at)
        if self._string:
            return -1
        found = _BETWEEN_BRACES.match(data, at)
        at = found.end() if found else at
        if at < len(data) and data[at] == 0x22:
            self._string = True
            self._string_end(data, at + 1)
        return -1 if self._string or at == len(data) else at

    def _string_end(self, data: bytes, at: int) -> int:
        """The index behind the string around `at`; its end, or half of an escape, may not have
        arrived.
        """
        if self._escape and at < len(data):
            self._escape = False
            at += 1
        found = _IN_STRING.match(data, at)
        at = found.end() if found else at
        if at < len(data):
            self._string = self._escape = data[at] == 0x5C
            at += 1
        return at

    def _keep(self, rest: bytes, found: list[Frame]) -> None:
        if not self._depth:
            self._discard(rest, found)
            return
        if len(self._held) + len(rest) > self._limit:
            raise FrameTooLarge(f"an object is longer than {self._limit} bytes")
        self._held += rest

    def _discard(self, between: bytes, found: list[Frame]) -> None:
        if not between.strip(b" \t\r\n,[]"):
            return
        found.append((STRAY, between))
        if len(self.rubbish) < TAIL_BYTES:
            self.rubbish = (self.rubbish + between)[:TAIL_BYTES]
