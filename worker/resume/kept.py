"""Pure: what an answer holds beside its text and tool calls, from the provider's delta to the row, and back to the same provider.

An entry of a row is `{at, dialect, kind, value}`; `at` counts the characters of text before it. All of an answer's entries are stored or
none: a tool without its result, or thoughts without their signature, would make the provider refuse the conversation. So an answer that
holds more than the limit lets go of all of them at once, and of what follows.

Two kinds of entries are no provider's: their dialect is empty, and no provider is sent them. `paused`: here the provider has paused its
turn. `incomplete`: the limit was passed; the row of a running answer says so, since whoever goes on with it lets go of what follows, too.

A checkpoint saves them when they have changed, and only then: they may be a megabyte. It may name entries beyond its text; whoever goes on
from it leaves those out (`continuation.still_kept`). What has changed is due until it is saved: a save under way may fail.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tokenwire.protocol.text import storable, storable_json
from tokenwire.providers.base import REASONING, Kept
from tokenwire.worker.resume.continuation import PAUSED

MAX_KEPT_BYTES = 1024 * 1024
INCOMPLETE = "incomplete"


class KeptItems:
    """Those of one answer, as one attempt knows them. `saved`: what its row holds; `entries`: what of it this attempt goes on from.

    `said_again`: the provider's run is attached to, and may say the last of them once more. `max_bytes`: of all of them together, as JSON.
    """

    def __init__(
        self,
        saved: Sequence[dict[str, Any]] = (),
        entries: Sequence[dict[str, Any]] = (),
        *,
        said_again: bool = False,
        max_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        self._max_bytes = max_bytes
        self._entries: list[dict[str, Any]] = []
        self._size = 0
        self._whole = True
        for entry in entries:
            self._hold(entry, _json(entry))
        if _mark(INCOMPLETE) in entries:
            self._let_go()
        self._again = Counter(map(_json, entries)) if said_again else Counter[str]()
        self.changed = len(self._entries) != len(saved)
        """The row holds something else."""

    def add(self, at: int, item: Kept) -> None:
        """An item that came after so many characters of text."""
        if not self._whole:
            return
        if _is_longer(item.value, self._max_bytes):
            self._let_go()
            return
        try:
            value = storable_json(dict(item.value))
        except (ValueError, RecursionError):
            self._let_go()
            return
        entry = {"at": at, "dialect": item.dialect, "kind": storable(item.kind), "value": value}
        text = _json(entry)
        if self._again[text]:
            self._again[text] -= 1
            return
        self._hold(entry, text)

    def pause(self, at: int) -> bool:
        """The provider has paused its turn here. False: it cannot be sent back, since a part of it was let go of, or it is mere text."""
        if any(entry["kind"] != REASONING for entry in self._entries):
            entry = _mark(PAUSED, at)
            self._hold(entry, _json(entry))
            return self._whole
        return False

    def _hold(self, entry: dict[str, Any], text: str) -> None:
        self._size += len(text)  # ASCII: characters are bytes
        self._entries.append(entry)
        self.changed = True
        if self._size > self._max_bytes:
            self._let_go()

    def _let_go(self) -> None:
        self._entries, self._whole, self.changed = [_mark(INCOMPLETE)], False, True

    def clear(self) -> None:
        """The answer began anew."""
        self._again.clear()
        self._entries, self._size, self._whole, self.changed = [], 0, True, True

    def stored(self) -> list[dict[str, Any]] | None:
        """The entries for the row; None if there are more than the limit, or there is one that no database takes."""
        return list(self._entries) if self._whole else None

    def checkpointed(self) -> list[dict[str, Any]]:
        """The same for the row of a running answer: it says that there were too many."""
        return list(self._entries)

    def saved(self, entries: Sequence[dict[str, Any]]) -> None:
        """The row holds these now."""
        self.changed = entries != self._entries


def _mark(kind: str, at: int = 0) -> dict[str, Any]:
    return {"at": at, "dialect": "", "kind": kind, "value": {}}


def _is_longer(value: Any, most: int) -> bool:
    """Whether a value has more characters as JSON, found out without writing it. Says no where it comes close."""
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


def _json(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True)
