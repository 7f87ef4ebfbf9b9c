"""Pure: stores a kept value without the text that its part already holds, and tells which kept
values belong to one turn of the provider.

Guarantees:
- `FoldIn(text).value(fold_out(value, text)) == value` for every value that `fold_out` accepts, and
  every text, even if the text has grown since. Every database accepts what `fold_out` returns.
- `turns` never splits a turn of the provider.

Why it works this way: providers require thinking exactly as they sent it, and each has its own
shapes (several summaries in one item, details in lists). This pair of functions knows no shape.
It replaces a pair for each dialect, and each of those could damage a signature. What databases
refuse (U+0000, a huge number) is stored as escaped JSON inside a string.

A provider accepts a turn with all of its kept values or with none: a thought without its signature,
or a tool of the provider without its result, is refused. A new request begins another turn, which
refers to nothing before it. So a loss costs the turn in which it happened. The last kept value of a
finished turn carries `ends` (`ended`). If a worker dies before it could save that, two turns count
as one, which is safe.

Rejected: references for short strings (words like "thinking" occur in many texts, and a reference
is longer); a limit of searches per value (a search takes linear time in a text of up to 4 MiB, so
some values could hold up a worker beyond its leases; the end of a text is compared without a
search, because a value follows its text at once); boundaries as offsets in the text (a part at a
seam could belong to either side); one loss costs the whole answer (a crash before a checkpoint then
discarded all that later requests gave).
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

from tokenwire.protocol.fold import Part
from tokenwire.protocol.states import CALL_ENDED
from tokenwire.protocol.text import MAX_JSON_DEPTH, storable_json

SHORTEST: Final = 32
"""Characters. Shorter strings are stored as they are."""
MOST_SEARCHED: Final = 8 * 1024 * 1024
"""Characters of text that are searched for all values of an attempt. What is not found by then is
stored as it is.
"""
LOST: Final[Mapping[str, Any]] = {"dialect": "", "kind": "lost", "value": {}}
"""The kept value of a part whose own one was lost with the worker that had it."""
_REFERENCE: Final = "$text"
_JSON: Final = "$json"
_ENDS: Final = {"ends": True}
_ESCAPED: Final = re.compile(r"\$+(text|json)")


def is_lost(part: Part) -> bool:
    """Whether something that was kept of this part is missing, or may be."""
    lost = part.kept is not None and LOST.items() <= part.kept.items()
    return lost or bool(part.fields.get("dropped"))


def ended(part: Part) -> Mapping[str, Any]:
    """The kept value of the last part of a turn that has or lacks one."""
    return {**(part.kept or LOST), **_ENDS}


def turns(parts: Sequence[Part]) -> list[range]:
    """The parts of each turn of the provider, by number."""
    steps = steps_between(parts)
    ends = (n for n, part in enumerate(parts) if n in steps or _has_ended(part))
    starts = [0, *(number + 1 for number in ends)]
    return [range(*pair) for pair in zip(starts, [*starts[1:], len(parts)], strict=True)]


def steps_between(parts: Sequence[Part]) -> frozenset[int]:
    """Numbers of the steps behind calls of tools that have ended, where another turn begins.

    A step behind a pause is none of them: the paused turn goes back and is continued. The state of
    a call decides: it may end without a result.
    """
    found, has_results = set[int](), False
    for number, part in enumerate(parts):
        has_results = has_results or part.fields.get("state") in CALL_ENDED
        if part.type == "step" and has_results:
            found.add(number)
            has_results = False
    return frozenset(found)


def _has_ended(part: Part) -> bool:
    """Whether a turn ended with this part (`ended`)."""
    return part.kept is not None and _ENDS.items() <= part.kept.items()


class SearchBudget:
    """What may still be searched. `left`: characters of texts."""

    def __init__(self, left: int = MOST_SEARCHED) -> None:
        self.left = left
        self._text, self._data = "", b""

    def encoded(self, text: str) -> bytes:
        """The text in UTF-16. Several values of one text share this work."""
        if text is not self._text:
            self._text, self._data = text, _encoded(text)
            self.left -= len(text) // 4  # about what it takes, compared to a search
        return self._data


def fold_out(value: Any, text: str, budget: SearchBudget | None = None) -> Any:
    """Replace strings of the value that occur in `text` by `{"$text": [start, length]}`.

    `start` and `length` count UTF-16 units. What databases refuse becomes `{"$json": "..."}`. A key
    that looks like one of the two gets one more `$`. Once `budget` is used up, only the end of the
    text is compared; None: this value has one of its own. Raises ValueError for a value nested
    deeper than MAX_JSON_DEPTH, for half a character, and for anything outside of JSON: no request
    can hold these.
    """
    return _Out(text, budget or SearchBudget()).value(value, MAX_JSON_DEPTH)


class _Out:
    def __init__(self, text: str, budget: SearchBudget) -> None:
        self._text, self._budget = text, budget

    def value(self, value: Any, depth: int) -> Any:
        if depth < 0:
            raise ValueError("nested too deeply")
        match value:
            case dict():
                out = {_escaped(name): self.value(item, depth - 1) for name, item in value.items()}
                return out if all(map(_is_storable, value)) else _as_json(value)
            case list():
                return [self.value(item, depth - 1) for item in value]
        if not _is_storable(value):
            return _as_json(value)
        return self._string(value) if isinstance(value, str) else value

    def _string(self, string: str) -> Any:
        if not SHORTEST <= len(string) <= len(self._text):
            return string
        is_end = self._text.endswith(string)
        if not is_end and self._budget.left <= 0:
            return string
        data, wanted = self._budget.encoded(self._text), _encoded(string)
        place = len(data) - len(wanted) if is_end else data.find(wanted)
        if not is_end:
            self._budget.left -= (len(data) if place < 0 else place) // 2
        if place < 0 or place % 2:  # an odd place is inside a unit
            return string
        return {_REFERENCE: [place // 2, len(wanted) // 2]}


class FoldIn:
    """Gives back the values that `fold_out` was given with this text, or with its beginning."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def _data(self) -> bytes:
        return _encoded(self.text)

    def value(self, value: Any) -> Any:
        """The value as it was. Raises ValueError if the text is too short for it."""
        match value:
            case {"$text": [int(start), int(length)]}:
                return self._slice(start, length)
            case {"$json": str(text)} if len(value) == 1:
                return json.loads(text)
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


def _is_storable(leaf: Any) -> bool:
    """Whether every database accepts this text or number. Raises ValueError if it is no JSON."""
    return bool(storable_json(leaf) == leaf)


def _as_json(value: Any) -> Mapping[str, str]:
    """The value as escaped JSON, which is ASCII. Raises ValueError for what cannot go back:
    infinities, and halves of characters, for which providers refuse a request.
    """
    text = json.dumps(value, allow_nan=False)
    json.dumps(json.loads(text), ensure_ascii=False).encode()
    return {_JSON: text}


def _escaped(name: str) -> str:
    return f"${name}" if _ESCAPED.fullmatch(name) else name


def _unescaped(name: str) -> str:
    return name[1:] if _ESCAPED.fullmatch(name) else name
