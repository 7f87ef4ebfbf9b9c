"""Pure: what an answer holds beside its text and tool calls, from the provider's delta to the row, and back to the same provider.

An entry of a row is `{at, dialect, kind, value}`; `at` counts the characters of text before it. All of an answer's entries are stored or
none: a tool without its result, or thoughts without their signature, would make the provider refuse the conversation.

A checkpoint saves them when they have changed, and only then: they may be a megabyte. It may name entries beyond its text; whoever goes on
from it leaves those out (`continuation.still_kept`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from providers.base import Item, Kept
from streams.text import storable, storable_json

MAX_KEPT_BYTES = 1024 * 1024


class KeptItems:
    """Those of one answer, as one attempt knows them. `saved`: what its row holds; `entries`: what of it this attempt goes on from.

    `said_again`: the provider's run is attached to, and may say the last of them once more.
    """

    def __init__(self, saved: Sequence[dict[str, Any]] = (), entries: Sequence[dict[str, Any]] = (), *, said_again: bool = False) -> None:
        self._entries = list(entries)
        self._again = list(entries) if said_again else []
        self._size = sum(map(_size, entries))
        self._whole = True
        self.changed = len(entries) != len(saved)
        """The row holds something else."""

    def add(self, at: int, item: Item) -> None:
        """An item that came after so many characters of text."""
        try:
            value = storable_json(dict(item.value))
        except (ValueError, RecursionError):
            self._whole, self.changed = False, True
            return
        entry = {"at": at, "dialect": item.dialect, "kind": storable(item.kind), "value": value}
        if entry in self._again:
            self._again.remove(entry)
            return
        self._entries.append(entry)
        self._size += _size(entry)
        self.changed = True

    def clear(self) -> None:
        """The answer began anew."""
        self._entries, self._again, self._size, self._whole, self.changed = [], [], 0, True, True

    def stored(self, max_bytes: int) -> list[dict[str, Any]] | None:
        """The entries for the row; None if there is more than `max_bytes` of them, or one that no database takes."""
        return list(self._entries) if self._whole and self._size <= max_bytes else None


def _size(entry: Mapping[str, Any]) -> int:
    return len(json.dumps(entry))  # ASCII: characters are bytes


def restored(entries: Iterable[Mapping[str, Any]]) -> tuple[Kept, ...]:
    """The entries of a row as parts of a message."""
    return tuple(Kept(entry["at"], Item(entry["dialect"], entry["kind"], entry["value"])) for entry in entries)
