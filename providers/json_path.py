"""Pure: the few JSON paths that Gemini streams arguments by: `$.city`, `$.stops[0].name`, `$['odd key']`, also without the `$.`."""

import re
from itertools import pairwise
from typing import Any

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\['([^']*)'\]")
_LONGEST_LIST = 10_000


def set_path(target: dict[str, Any], path: str, value: Any) -> None:
    """Put `value` at `path`, making objects and lists on the way; a text that meets a text is appended.

    Raises ValueError for a path that leads nowhere, and for a value that would take the place of a text, an object or a list.
    """
    rooted = path if path.startswith("$") else f"$.{path}"
    steps = [_step(match) for match in _STEP.finditer(rooted)]
    if not steps or not isinstance(steps[0], str):
        raise ValueError(f"not a path into an object: {path!r}")
    place: Any = target
    for step, following in pairwise(steps):
        place = _child(place, step, [] if isinstance(following, int) else {})
    last = steps[-1]
    held = _child(place, last, None)
    if isinstance(held, str) and isinstance(value, str):
        value = held + value
    elif held and isinstance(held, str | dict | list):
        raise ValueError(f"something else stands at {path!r}")
    place[last] = value


def _step(match: re.Match[str]) -> str | int:
    name, index, quoted = match.groups()
    return int(index) if index is not None else name if name is not None else quoted


def _child(place: Any, step: str | int, default: Any) -> Any:
    if isinstance(step, int):
        if step > _LONGEST_LIST:
            raise ValueError("a list is too long")
        place.extend([None] * (step + 1 - len(place)))
        if place[step] is None:
            place[step] = default
        return place[step]
    return place.setdefault(step, default)
