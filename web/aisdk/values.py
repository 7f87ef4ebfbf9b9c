"""Pure: JSON that an AI SDK client accepts.

The client parses every chunk with a parser that refuses whole objects for a key `__proto__`, or a
`constructor` that holds a `prototype`; the first refused chunk ends its stream. Values of a model
or a tool are therefore changed here, never refused: those keys get one more leading
underscore; NaN, infinities and too deeply nested values become null.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from tokenwire.protocol.values import present

UIChunk: TypeAlias = dict[str, Any]
"""One chunk: a JSON object with a `type`."""
Profile = Literal["v5", "v6", "v7"]
"""The major version of `ai` that reads the stream. All releases from 5.0.100 on understand `v5`."""
PROFILES: tuple[Profile, ...] = get_args(Profile)
MAX_DEPTH = 100


class Misuse(ValueError):
    """The call would write something that no client could read; nothing was written."""


def clean(value: Any, depth: int = 0) -> Any:
    """The value with refused keys renamed and refused values made null. Raises Misuse for values
    outside of JSON.
    """
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth >= MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return _clean_object(value, depth)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [clean(item, depth + 1) for item in value]
    raise Misuse(f"{type(value).__name__} is no JSON value")


def _clean_object(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for key, item in value.items():
        name = key if isinstance(key, str) else _key(key)
        inside = clean(item, depth + 1)
        if name == "__proto__" or (
            name == "constructor" and isinstance(inside, dict) and "prototype" in inside
        ):
            name = "_" + name
            while name in value:
                name = "_" + name
        cleaned[name] = inside
    return cleaned


def _key(key: Any) -> str:
    """A key as `json.dumps` writes it."""
    if isinstance(key, bool | int | float) or key is None:
        return json.dumps(clean(key))
    raise Misuse(f"{type(key).__name__} is no key of a JSON object")


def dumps(value: Any) -> bytes:
    """UTF-8 JSON. A lone surrogate is written as an escape: JavaScript joins the halves of two
    deltas.
    """
    try:
        return _json.encode(value).encode()
    except UnicodeEncodeError:
        return _ascii_json.encode(value).encode()


_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_ascii_json = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def make(kind: str, /, **fields: Any) -> UIChunk:
    """A chunk with those of the fields that are not None."""
    return {"type": kind} | present(**fields)


def string(name: str, value: Any) -> str:
    """The argument `name`, which is a string. Raises Misuse."""
    if not isinstance(value, str):
        raise Misuse(f"{name} is no text")
    return value


def optional(name: str, value: Any) -> str | None:
    """The argument `name`, which is a string or None. Raises Misuse."""
    return None if value is None else string(name, value)


def mapping(name: str, value: Any) -> dict[str, Any] | None:
    """The argument `name`, which is an object or None, cleaned. Raises Misuse."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise Misuse(f"{name} is no object")
    cleaned: dict[str, Any] = clean(value)
    return cleaned


def provided(value: Any) -> dict[str, Any] | None:
    """{provider: {key: value}} or None, cleaned. Raises Misuse."""
    cleaned = mapping("provider_metadata", value)
    if cleaned is not None and not all(isinstance(item, dict) for item in cleaned.values()):
        raise Misuse("provider_metadata looks like {provider: {key: value}}")
    return cleaned
