"""Pure: stores a kept value without the text that its part already holds.

Guarantees: `fold_in(fold_out(value, text), text) == value` for every JSON value and text, even
if the text has grown since. Only strings are changed, so signatures survive verbatim.

Why it works this way: providers require thinking exactly as they sent it, and each has its own
shapes (several summaries in one item, details in lists). This pair of functions knows no shape.
It replaces a pair for each dialect, and each of those could damage a signature.

Rejected: references for short strings (words like "thinking" occur in many texts, and a reference
is longer); unlimited searches (a search takes linear time in a text of up to 4 MiB).
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

SHORTEST: Final = 32
"""Characters. Shorter strings are stored as they are."""
MOST_SEARCHES: Final = 256
"""Searches per value. Further strings are stored as they are."""
LOST: Final[Mapping[str, Any]] = {"dialect": "", "kind": "lost", "value": {}}
"""The kept value of a part whose own one was lost with the worker that had it."""
_REFERENCE: Final = "$text"
_ESCAPED: Final = re.compile(r"\$+text")


def fold_out(value: Any, text: str) -> Any:
    """Replace each string of the value that occurs in `text` by `{"$text": [start, length]}`.

    `start` and `length` count UTF-16 units. A key that looks like `$text` gets one more `$`.
    """
    return _Out(text).value(value)


def fold_in(value: Any, text: str) -> Any:
    """The value that `fold_out` was given. Raises ValueError if the text is too short for it."""
    return _In(text).value(value)


class _Out:
    def __init__(self, text: str) -> None:
        self._text, self._searches = text, MOST_SEARCHES

    @cached_property
    def _data(self) -> bytes:
        """Encoded at the first search: most values hold no string that is long enough for one."""
        return _encoded(self._text)

    def value(self, value: Any) -> Any:
        match value:
            case str():
                return self._string(value)
            case dict():
                return {_escaped(name): self.value(item) for name, item in value.items()}
            case list():
                return [self.value(item) for item in value]
        return value

    def _string(self, string: str) -> Any:
        if len(string) < SHORTEST or self._searches == 0:
            return string
        self._searches -= 1
        wanted = _encoded(string)
        place = self._data.find(wanted)
        if place < 0 or place % 2:  # an odd place is inside a unit
            return string
        return {_REFERENCE: [place // 2, len(wanted) // 2]}


class _In:
    def __init__(self, text: str) -> None:
        self._data = _encoded(text)

    def value(self, value: Any) -> Any:
        match value:
            case {"$text": [int(start), int(length)]}:
                return self._slice(start, length)
            case dict():
                return {_unescaped(name): self.value(item) for name, item in value.items()}
            case list():
                return [self.value(item) for item in value]
        return value

    def _slice(self, start: int, length: int) -> str:
        found = self._data[2 * start : 2 * (start + length)]
        if start < 0 or len(found) != 2 * length:
            raise ValueError("the text does not hold what was kept of it")
        return found.decode("utf-16-le", "surrogatepass")


def _encoded(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def _escaped(name: str) -> str:
    return f"${name}" if _ESCAPED.fullmatch(name) else name


def _unescaped(name: str) -> str:
    return name[1:] if _ESCAPED.fullmatch(name) else name
