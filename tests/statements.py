"""Compiled statements that all databases of a session share.

SQLAlchemy keeps compiled statements with their engine, and almost each test opens one: without
this, tests would compile the same statements thousands of times. The text of a statement depends on
the kind of database and the driver alone.
"""

from collections.abc import Iterator, MutableMapping
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.util import LRUCache

STATEMENTS = 2000


class _Compiled(MutableMapping[Any, Any]):
    """A cache whose keys name no dialect: they begin with the object of the engine that asks."""

    def __init__(self) -> None:
        self._found: LRUCache[Any, Any] = LRUCache(STATEMENTS)

    def __getitem__(self, key: Any) -> Any:
        return self._found[key[1:]]

    def __setitem__(self, key: Any, compiled: Any) -> None:
        self._found[key[1:]] = compiled

    def __delitem__(self, key: Any) -> None:
        del self._found[key[1:]]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


_COMPILED: dict[tuple[str, str], _Compiled] = {}


def share_statements() -> None:
    """From now on, for every connection of every engine."""
    event.listen(Engine, "engine_connect", _share)


def _share(connection: Connection) -> None:
    kind = connection.dialect.name, type(connection.dialect).__name__
    connection.execution_options(compiled_cache=_COMPILED.setdefault(kind, _Compiled()))
