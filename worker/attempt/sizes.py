"""Pure: how large the parts of an answer are, as its limits count them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenwire.protocol import fold
from tokenwire.protocol.text import storable

PART_COST = 256
"""Bytes that a part costs in addition to its texts, so that parts count against the limit."""
MAX_FIELD_CHARS = 8 * 1024
"""The longest title, name, quote or address. A longer address is dropped, others are cut."""


def storable_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with storable texts, cut to the longest that a field may have."""
    found = dict[str, Any]()
    for name, value in fields.items():
        if not isinstance(value, str):
            found[name] = value
        elif name == "url" and len(value) > MAX_FIELD_CHARS:
            found["dropped"] = True
        else:
            found[name] = storable(value[:MAX_FIELD_CHARS])
    return found


def texts_of(fields: Mapping[str, Any]) -> Iterator[str]:
    """The fields that are texts."""
    return (value for value in fields.values() if isinstance(value, str))


def size_of(part: fold.Part) -> int:
    """The size of a part in bytes, as the limits count it. Text costs its bytes only."""
    plain = part.type in ("text", "reasoning") and "at" not in part.fields
    return byte_size(part.text) + (
        0 if plain else PART_COST + sum(map(byte_size, texts_of(part.fields)))
    )


def byte_size(text: str) -> int:
    """The length of a text in bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def cut_to(text: str, size: int) -> str:
    """The beginning of a text that has at most so many bytes. No character is split."""
    return text.encode()[: max(0, size)].decode("utf-8", "ignore")


def json_size(value: Mapping[str, Any]) -> int:
    """The length of a value as JSON, in bytes."""
    return len(json.dumps(value))  # ASCII: characters are bytes


def is_longer(value: Any, most: int) -> bool:
    """Whether a value is certainly longer as JSON, in characters, without encoding it."""
    waiting = [value]
    while waiting and most >= 0:
        value = waiting.pop()
        most -= len(value) + 2 if isinstance(value, str) else 3
        if isinstance(value, Mapping):
            most -= sum(map(len, value))
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return most < 0
