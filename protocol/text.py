"""Pure: text in the protocol's units, and values that every store accepts.

Lengths and offsets are UTF-16 code units; checksums are zlib's of the UTF-8 bytes. PostgreSQL
refuses texts and JSON that SQLite accepts: input is made `storable` where it enters.
"""

import json
import math
import re
import zlib
from collections.abc import Iterator
from typing import Any, NoReturn

_FORBIDDEN = re.compile("[\ud800-\udfff\x00]")


def utf16_length(text: str) -> int:
    """Length in UTF-16 code units, as JavaScript's `length`."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def cut(text: str, units: int) -> str:
    """The first `units` UTF-16 code units. Raises ValueError if that would split a surrogate pair
    or exceed the end.
    """
    if text.isascii():
        if units > len(text):
            raise ValueError("cut beyond the end")
        return text[:units]
    data = text.encode("utf-16-le", "surrogatepass")
    if units * 2 > len(data):
        raise ValueError("cut beyond the end")
    return data[: units * 2].decode("utf-16-le")


def pieces(text: str, max_bytes: int) -> Iterator[str]:
    """The text in pieces of at most `max_bytes` (at least 4) of UTF-8; no character is split."""
    data = text.encode()
    start = 0
    while start < len(data):
        end = min(start + max_bytes, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # the next byte is inside a character
            end -= 1
        yield data[start:end].decode()
        start = end


def checksum(text: str) -> int:
    """crc32 (zlib's, unsigned) of the UTF-8 text."""
    return zlib.crc32(text.encode())


class Cleaner:
    """Makes pieces of text fit for the log: no piece ends within a surrogate pair; no lone
    surrogate, no U+0000.

    A piece that ends in a high surrogate waits for the next one; `flush` returns the rest.
    """

    def __init__(self) -> None:
        self._held = ""

    @property
    def holds(self) -> bool:
        """Whether half a character waits for the other."""
        return bool(self._held)

    def passes(self, piece: str) -> bool:
        """Whether the piece may be logged as it is, and nothing waits before it."""
        if self._held:
            return False
        return "\x00" not in piece if piece.isascii() else not _FORBIDDEN.search(piece)

    def push(self, piece: str) -> str:
        """The part of everything pushed that may be logged now."""
        if not self._held and (piece.isascii() or not _FORBIDDEN.search(piece)):
            return piece.replace("\x00", "�") if "\x00" in piece else piece
        text = self._held + piece
        self._held = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._held = text[:-1], text[-1]
        return _join(text)

    def flush(self) -> str:
        """The half character that waited, as U+FFFD: its other half never came."""
        held, self._held = self._held, ""
        return "�" if held else ""


_PAIR = re.compile("([\ud800-\udbff])([\udc00-\udfff])")


def _join(text: str) -> str:
    # A pair given as two lone halves is one character; what stays lone, or is U+0000, is replaced.
    paired = _PAIR.sub(
        lambda m: chr(0x10000 + ((ord(m[1]) - 0xD800) << 10) + (ord(m[2]) - 0xDC00)), text
    )
    return _FORBIDDEN.sub("\ufffd", paired)


MAX_JSON_DEPTH = 64
"""Deeper than any sensible value, and far below the limit of JSON libraries of any language."""
_INTEGERS = range(-(2**63), 2**64)
"""The integers that the log's encoder accepts."""


_SLICE = 64 * 1024


def storable(text: str) -> str:
    """The text as the log and both databases accept it: halves of a pair joined, lone surrogates
    and U+0000 as U+FFFD.

    A long text is processed in slices, so that other threads can run.
    """
    if len(text) <= _SLICE:
        return _join(text) if _FORBIDDEN.search(text) else text
    cleaner = Cleaner()
    return (
        "".join(
            [cleaner.push(text[start : start + _SLICE]) for start in range(0, len(text), _SLICE)]
        )
        + cleaner.flush()
    )


def fits(text: str, limit: int) -> bool:
    """Whether a column of `limit` characters accepts the text. Only PostgreSQL would refuse it."""
    return len(text) <= limit and not _FORBIDDEN.search(text)


class NameTwice(ValueError):
    """An object has a name twice."""


class TooBroken(ValueError):
    """Too many characters would have to be replaced."""


def storable_json(value: Any, most_replaced: int | None = None) -> Any:
    """A parsed JSON value as the log and both databases accept it, with all texts and names
    `storable`.

    NaN, infinities and integers beyond 64 bits become strings. Raises ValueError for a value nested
    deeper than MAX_JSON_DEPTH, and for anything outside of JSON; TooBroken for more than
    `most_replaced` invalid characters (None: unlimited).
    """
    return _Storing(most_replaced).json(value, MAX_JSON_DEPTH)


def is_shallow(value: Any) -> bool:
    """Whether a value of JSON has at most MAX_JSON_DEPTH levels of lists and objects."""
    values = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        values = [each for each in values if isinstance(each, dict | list)]
        if not values:
            return True
        values = [
            inner
            for each in values
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return False


def strict_json(text: str, *, once: bool = False) -> Any:
    """The value of a JSON text. Raises ValueError for anything else, also for NaN and infinities
    (`1e999` too), which Python's parser accepts, and RecursionError for endless nesting. With
    `once`, raises NameTwice for an object that has a name twice; without, the last value counts.
    """
    return json.loads(
        text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_once if once else None
    )


def input_object(text: str) -> dict[str, Any] | None:
    """The input of a call as a `storable` object; None if it is no object, or if one of its objects
    has a name twice: a person who reads the text could take another value for the one that counts.
    No input is {}.

    The text that a model writes is storable, but it may hold escapes (`\\ud800`, `\\u0000`) that
    are no characters. So each reader that needs the value gets it here, and all get the same.
    """
    try:
        value = storable_json(strict_json(text, once=True)) if text.strip() else {}
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    # Names that differ only in what is no character become one name.
    if len({storable(name) for name, _ in members}) < len(members):
        raise NameTwice
    return dict(members)


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits[:20])


class _Storing:
    def __init__(self, most_replaced: int | None) -> None:
        self._left = most_replaced

    def json(self, value: Any, depth: int) -> Any:
        if depth < 0:
            raise ValueError("nested too deeply")
        match value:
            case str():
                return self._text(value)
            case None | bool():
                return value
            case int():
                return value if value in _INTEGERS else str(value)
            case float():
                return value if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")
            case dict():
                return {
                    self._text(name): self.json(item, depth - 1) for name, item in value.items()
                }
            case list() | tuple():
                return [self.json(item, depth - 1) for item in value]
        raise ValueError(f"{type(value).__name__} is not JSON")

    def _text(self, text: str) -> str:
        # Counting is fast, replacing is not: badly broken text is refused before it is repaired.
        if self._left is not None and _FORBIDDEN.search(text):
            self._left -= _broken(text)
            if self._left < 0:
                raise TooBroken
        return storable(text)


def _broken(text: str) -> int:
    """The number of lone surrogates and U+0000. (Adjacent halves count as well.)"""
    return text.count("\x00") + len(text) - len(text.encode("utf-8", "ignore").decode())


_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}
