"""Pure: what a tool returned, as JSON of bounded size.

Guarantees: the cost is bounded by the limit, not by the value, except for pydantic models,
dataclasses and other types that pydantic converts whole. The value is storable: no lone surrogate,
no U+0000, no NaN, no integer beyond 64 bits, at most MAX_JSON_DEPTH levels.

A value that is too large becomes `{"truncated": true, "text": ...}` with the beginning of its text,
or of its JSON: the tool took effect, and the model can use a beginning, or ask for less. Rejected:
`json.dumps` first and a cut afterwards, which holds Python's lock for as long as the value is
large.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from tokenwire.protocol.text import MAX_JSON_DEPTH, storable, storable_json, strict_json


class Unshowable(ValueError):
    """The value has no JSON."""


class _LimitReached(Exception):
    """The limit is reached."""


def shown(value: Any, max_bytes: int) -> Any:
    """The value as JSON of at most `max_bytes` (at least 64) of UTF-8, escapes included. Raises
    Unshowable, and what the value's own code raises.
    """
    writer = _ResultWriter(max_bytes)
    try:
        writer.write(value, MAX_JSON_DEPTH)
    except _LimitReached:
        text = value[:max_bytes] if isinstance(value, str) else writer.text
        return _truncated(storable(text), max_bytes)
    return strict_json(writer.text)


def _truncated(text: str, max_bytes: int) -> dict[str, Any]:
    """As much of the text as fits."""
    fits, too_many = 0, len(text) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if len(_json(_cut(text, middle)).encode()) <= max_bytes:
            fits = middle
        else:
            too_many = middle
    return _cut(text, fits)


def _cut(text: str, length: int) -> dict[str, Any]:
    return {"truncated": True, "text": text[:length]}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _ResultWriter:
    """Writes JSON until its limit is reached."""

    def __init__(self, max_bytes: int) -> None:
        self._pieces: list[str] = []
        self._left = max_bytes

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def write(self, value: Any, depth: int) -> None:
        if depth < 0:
            raise Unshowable("nested too deeply")
        match value:
            case str():
                self._put(self._text(value))
            case None | bool():
                self._put(_json(value))
            case int() | float():
                number = int(value) if isinstance(value, int) else float(value)
                self._put(_json(storable_json(number)))
            case Mapping():
                self._put("{")
                for n, (name, item) in enumerate(value.items()):
                    self._put("," * (n > 0) + self._text(_name(name)) + ":")
                    self.write(item, depth - 1)
                self._put("}")
            case list() | tuple():
                self._put("[")
                for n, item in enumerate(value):
                    self._put("," * (n > 0))
                    self.write(item, depth - 1)
                self._put("]")
            case _:
                self.write(_converted(value), depth)

    def _text(self, text: str) -> str:
        # What lies behind the limit need not be written: each character has a byte.
        return _json(storable(text[: self._left + 1]))

    def _put(self, piece: str) -> None:
        self._pieces.append(piece)
        self._left -= len(piece.encode())
        if self._left < 0:
            raise _LimitReached


def _name(name: Any) -> str:
    """A name as `json.dumps` writes it."""
    match name:
        case str():
            return name
        case None | bool() | int() | float():
            return "NaN" if isinstance(name, float) and math.isnan(name) else _json(name)
    converted = _converted(name)
    if not isinstance(converted, str):
        raise Unshowable(f"a name of the type {type(name).__name__}")
    return converted


def _converted(value: Any) -> Any:
    """By pydantic. Bytes are no text, and an iterator need not end."""
    if isinstance(value, bytes | bytearray | memoryview | Iterator):
        raise Unshowable(f"{type(value).__name__} is not JSON")
    try:
        found = to_jsonable_python(value)
    except (PydanticSerializationError, ValueError) as error:
        raise Unshowable(str(error)) from error
    if not isinstance(found, str | int | float | dict | list | None):
        raise Unshowable(f"{type(value).__name__} is not JSON")
    return found
