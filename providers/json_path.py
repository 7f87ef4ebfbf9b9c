"""Pure: the JSON paths of Gemini's streamed arguments: `$.city`, `$.stops[0].name`, `$['odd key']`,
also without `$.`.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]")
_LONGEST_LIST = 10_000
_WIDEST_HOLE = 16
"""How many entries of a list may be missing before a given one: they are created, and a short path
must not create many.
"""
_DEEPEST = 32
_LONGEST_PATH = 2000


class PathValues:
    """An object from values at paths. Pieces of a text are joined once, at the end."""

    def __init__(self) -> None:
        self._value: dict[str, Any] = {}

    def update(self, values: Mapping[str, Any]) -> None:
        """Add whole fields."""
        self._value.update(values)

    def put(self, path: str, value: Any) -> None:
        """Put `value` at `path`, creating objects and lists on the way; a text extends a text.

        Raises ValueError for an impossible path, and for a value that would replace a text, an
        object or a list.
        """
        if len(path) > _LONGEST_PATH:
            raise ValueError(f"a path of {len(path)} characters")
        rooted = path if path.startswith("$") else f"$.{path}"
        steps = [_step(match) for match in _STEP.finditer(rooted)]
        if not steps or not isinstance(steps[0], str) or len(steps) > _DEEPEST:
            raise ValueError(f"not a path into an object: {path[:100]!r}")
        place: Any = self._value
        for step, following in pairwise(steps):
            place = _child(place, step, [] if isinstance(following, int) else {})
        last = steps[-1]
        place[last] = _joined(_child(place, last, None), value, path)

    def whole(self) -> dict[str, Any]:
        """The object."""
        return {name: _whole(value) for name, value in self._value.items()}


class _TextPieces:
    """A text in pieces, none of them empty."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = [piece for piece in pieces if piece]


def _joined(held: Any, value: Any, path: str) -> Any:
    if isinstance(value, str):
        if isinstance(held, _TextPieces):
            held.pieces.append(value)
            return held
        if not held or isinstance(held, str):
            return _TextPieces(held if isinstance(held, str) else "", value)
    if (
        held.pieces
        if isinstance(held, _TextPieces)
        else held and isinstance(held, str | dict | list)
    ):
        raise ValueError(f"something else stands at {path[:100]!r}")
    return _TextPieces(value) if isinstance(value, str) else value


def _whole(value: Any) -> Any:
    if isinstance(value, _TextPieces):
        return "".join(value.pieces)
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


def _step(match: re.Match[str]) -> str | int:
    name, index, quoted = match.groups()
    return int(index) if index is not None else name if name is not None else quoted


def _child(place: Any, step: str | int, default: Any) -> Any:
    if isinstance(step, int):
        if step > min(_LONGEST_LIST, len(place) + _WIDEST_HOLE):
            raise ValueError("a list is too long")
        place.extend([None] * (step + 1 - len(place)))
        if place[step] is None:
            place[step] = default
        return place[step]
    return place.setdefault(step, default)
