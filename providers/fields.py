"""Pure: reading the fields of JSON that a stranger wrote.

Two manners. What carries a piece of the answer is read strictly (`mapping`, `mappings`, `words`): absent is nothing, another type is
`Damaged`, because a piece that cannot be read is a piece that is lost. What only accompanies the answer (usage, titles, metadata) is
read loosely (`loose`, `loose_list`, `word`): another type is as good as absent.
"""

from collections.abc import Mapping, Sequence
from typing import Any


class Damaged(ValueError):
    """A field that carries a piece of the answer holds something that the format does not allow."""


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object; None counts as an empty one. Raises Damaged."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Damaged("not an object")
    return value


def mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    """A list of JSON objects; None counts as an empty one. Raises Damaged."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise Damaged("not a list of objects")
    return value


def words(value: Any) -> str:
    """A text; None counts as an empty one. Raises Damaged."""
    if value is None:
        return ""
    if type(value) is not str:
        raise Damaged("not a text")
    return value


def loose(value: Any) -> Mapping[str, Any]:
    """A JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def loose_list(value: Any) -> Sequence[Mapping[str, Any]]:
    """The JSON objects of a list; nothing for anything else."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else ()


def word(value: Any) -> str | None:
    """A text that is not empty, or None for anything else."""
    return value if type(value) is str and value else None


def place(value: Any) -> int | str | None:
    """The number or name under which pieces of one thing come. Raises Damaged."""
    if not isinstance(value, int | str | None):
        raise Damaged("neither a number nor a name")
    return value


_NAMES = frozenset({"type", "id", "index", "name", "role", "status", "format", "media_type", "mime_type"})
"""Fields that pieces repeat and do not extend."""


def grown(old: Any, new: Any) -> Any:
    """`old` with a further piece: texts and lists are extended, objects merged field by field, names and numbers replaced.

    What is empty adds nothing, whatever its type. Raises Damaged for any other piece of another type than what it extends.
    """
    if isinstance(old, str) and isinstance(new, str):
        return old + new
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *new]
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: value if name in _NAMES else grown(old.get(name), value) for name, value in new.items()}}
    if new is None or (old and new in ("", [], {})):
        return old
    if old and isinstance(old, str | list | dict):
        raise Damaged("a piece of another type")
    return new
