"""Pure: what only a provider understands, stored without the text that its part holds already.

Guarantees: `fold_in(fold_out(value, text), text) == value` for every JSON value and text, also
where the text has grown since; nothing but strings is changed, so signatures survive verbatim.

Why it works this way: providers want thinking back exactly as they sent it, in shapes of their own
(several summaries in one item, details in lists). One pair of functions that knows no shape
replaces an inverse for each dialect, each of which could send a damaged signature.

Rejected: references for short strings (words like "thinking" stand in many texts, and a reference
is longer than they are); unlimited searching (a search is linear in a text of up to 4 MiB).
"""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

SHORTEST: Final = 32
"""Shorter strings stay as they are, in characters."""
MOST_SEARCHES: Final = 256
"""So many strings of one value are looked for; the others stay as they are."""
LOST: Final[Mapping[str, Any]] = {"dialect": "", "kind": "lost", "value": {}}
"""Stands for what may have been kept of a part, and was lost with the worker that had it."""
_REFERENCE: Final = "$text"
_ESCAPED: Final = re.compile(r"\$+text")


def fold_out(value: Any, text: str) -> Any:
    """The value with each string that stands in `text` as `{"$text": [start, length]}`.

    Numbers are UTF-16 units. A name that looks like the reference's gets one more `$`.
    """
    return _Out(text).value(value)


def fold_in(value: Any, text: str) -> Any:
    """What `fold_out` was given. Raises ValueError where the text does not reach so far."""
    return _In(text).value(value)


class _Out:
    def __init__(self, text: str) -> None:
        self._text, self._searches = text, MOST_SEARCHES

    @cached_property
    def _data(self) -> bytes:
        """Most values hold no string that is long enough to be looked for."""
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
        if place < 0 or place % 2:  # odd: between the halves of a unit, which is no slice
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
