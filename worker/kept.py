"""Pure: what an answer holds beside its text and tool calls, from the provider's delta to the row, and back to the same provider.

An entry of a row is `{at, dialect, kind, value}`; `at` counts the characters of text before it. All of an answer's entries are stored or
none: a tool without its result, or thoughts without their signature, would make the provider refuse the conversation.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from providers.base import Item, Kept
from streams.text import storable, storable_json

MAX_KEPT_BYTES = 1024 * 1024


class KeptItems:
    """Those of one attempt."""

    def __init__(self) -> None:
        self._entries: list[dict[str, Any]] = []
        self._whole = True

    def add(self, at: int, item: Item) -> None:
        """An item that came after so many characters of text."""
        try:
            value = storable_json(dict(item.value))
        except (ValueError, RecursionError):
            self._whole = False
            return
        self._entries.append({"at": at, "dialect": item.dialect, "kind": storable(item.kind), "value": value})

    def clear(self) -> None:
        """The answer began anew."""
        self._entries, self._whole = [], True

    def stored(self, max_bytes: int) -> list[dict[str, Any]] | None:
        """The entries for the row; None if there is more than `max_bytes` of them, or one that no database takes."""
        whole = self._whole and (not self._entries or len(json.dumps(self._entries).encode()) <= max_bytes)
        return list(self._entries) if whole else None


def restored(entries: Iterable[Mapping[str, Any]]) -> tuple[Kept, ...]:
    """The entries of a row as parts of a message."""
    return tuple(Kept(entry["at"], Item(entry["dialect"], entry["kind"], entry["value"])) for entry in entries)
