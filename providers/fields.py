"""Pure: reading the fields of JSON from strangers.

A field that carries a piece of the answer, or its place, is read strictly (`mapping`, `mappings`,
`words`, `counter`): an absent field is empty, and another type is `Unreadable`, because an
unreadable piece is a lost piece. Accompanying fields (usage, titles, metadata) are read loosely
(`loose`, `loose_list`, `word`): another type counts as absent.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any


class Unreadable(ValueError):
    """A field with a piece of the answer holds something that the format does not allow."""


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object; None counts as an empty one. Raises Unreadable."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable("not an object")
    return value


def mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    """A list of JSON objects; None counts as an empty one. Raises Unreadable."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise Unreadable("not a list of objects")
    return value


def words(value: Any) -> str:
    """A text; None counts as an empty one. Raises Unreadable."""
    if value is None:
        return ""
    if type(value) is not str:
        raise Unreadable("not a text")
    return value


def counter(value: Any) -> int | None:
    """A whole number of 64 bits; None for another type. Raises Unreadable for a larger number."""
    if type(value) is not int:
        return None
    if not -(2**63) <= value < 2**63:
        raise Unreadable("a number beyond 64 bits")
    return value


def loose(value: Any) -> Mapping[str, Any]:
    """A JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def loose_list(value: Any) -> Sequence[Mapping[str, Any]]:
    """The JSON objects of a list; nothing for anything else."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else ()


def word(value: Any) -> str | None:
    """A text that is not empty, or None for anything else."""
    return value if type(value) is str and value else None


def place(value: Any) -> int | str | None:
    """The number or name that pieces of one thing share. Raises Unreadable."""
    if not isinstance(value, int | str | None):
        raise Unreadable("neither a number nor a name")
    return value


def file_bytes(value: Any) -> bytes | None:
    """The bytes of a base64 file; None for anything else, even another spelling of base64."""
    if not isinstance(value, str) or not value.isascii():
        return None
    try:
        data = base64.b64decode(value, validate=True)
    except ValueError:
        return None
    return data if data and base64.b64encode(data).decode() == value else None


def data_url_file(url: Any) -> tuple[str, str] | None:
    """Media type and base64 of `data:image/png;base64,...`; None for anything else."""
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    head, comma, encoded = url.partition(",")
    media_type, mark, _ = head[5:].partition(";base64")
    return (media_type, encoded) if comma and mark and media_type else None


_BLANK = b" \t\r\n"


def json_object(data: bytes) -> dict[str, Any] | None:
    """The object in these bytes, read less strictly than by msgspec; None for anything else."""
    # The standard library's decoder accepts what msgspec refuses: raw control characters, lone
    # surrogates, NaN.
    if not data.lstrip(_BLANK).startswith(b"{"):
        return None  # an exception would make a word twenty times as expensive
    try:
        item = json.loads(data.decode("utf-8", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None
    return item if isinstance(item, dict) else None


_NAMES = frozenset(
    {"type", "id", "index", "name", "role", "status", "format", "media_type", "mime_type"}
)
"""Fields that pieces repeat and do not extend."""


_MAX_DEPTH = 64
"""Nested objects whose fields come in pieces."""


class Accumulator:
    """A value in pieces: texts and lists are extended, objects merged field by field, names and
    numbers replaced.

    Empty values of any type add nothing. Pieces of texts are joined once, in `whole`: joining each
    piece would copy a long value again and again.
    """

    __slots__ = ("_depth", "_held", "_kind")

    def __init__(self, value: Any = None, depth: int = _MAX_DEPTH) -> None:
        self._depth = depth
        self._kind: type = type(None)
        self._held: Any = None
        """The pieces of a text; the fields of an object, with Accumulators for those that grew."""
        self.add(value)

    def add(self, piece: Any) -> None:
        """Raises Unreadable for a piece of another type than the value that it extends."""
        kind = type(piece)
        if kind is self._kind and kind in _GROWS:
            self._extend(piece)
        elif piece is None or (self._held and piece in ("", [], {})):
            return
        elif self._held and self._kind in _GROWS:
            raise Unreadable("a piece of another type")
        else:
            self._kind = kind
            self._held = _GROWS[kind]() if kind in _GROWS else piece
            self._extend(piece)

    def _extend(self, piece: Any) -> None:
        if self._kind is str:
            if piece:
                self._held.append(piece)
        elif self._kind is list:
            self._held.extend(piece)
        elif self._kind is dict:
            for name, value in piece.items():
                self._field(name, value)

    def _field(self, name: str, value: Any) -> None:
        old = self._held.get(name)
        if name in _NAMES or old is None:
            self._held[name] = value
            return
        if not isinstance(old, Accumulator):
            if not self._depth:
                raise Unreadable("pieces nested too deeply")
            old = self._held[name] = Accumulator(old, self._depth - 1)
        old.add(value)

    def whole(self) -> Any:
        """The complete value."""
        if self._kind is str:
            self._held = ["".join(self._held)]
            return self._held[0]
        if self._kind is dict:
            return {
                name: value.whole() if isinstance(value, Accumulator) else value
                for name, value in self._held.items()
            }
        return list(self._held) if self._kind is list else self._held


_GROWS: Mapping[type, type] = {str: list, list: list, dict: dict}
"""Types that grow, and the containers of their pieces."""
