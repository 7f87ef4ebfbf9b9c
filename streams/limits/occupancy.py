"""Pure: counts the places that each name has taken, with one limit for every name."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager


class Full(Exception):
    """The name has reached its limit."""


class Occupancy:
    """`limit` places for each name; None: unlimited. The name None is not counted."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._taken: Counter[Hashable] = Counter()

    def take(self, name: Hashable | None, amount: int = 1) -> None:
        """Take `amount` places, until `release`. Raises Full without taking any."""
        if name is None:
            return
        if self._limit is not None and self._taken[name] + amount > self._limit:
            raise Full(name)
        self._taken[name] += amount

    def release(self, name: Hashable | None, amount: int = 1) -> None:
        """Give places back."""
        if name is None:
            return
        self._taken[name] -= amount
        if self._taken[name] <= 0:
            del self._taken[name]

    @contextmanager
    def held(self, name: Hashable | None) -> Iterator[None]:
        """Hold one place during the block. Raises Full."""
        self.take(name)
        try:
            yield
        finally:
            self.release(name)

    def taken(self, name: Hashable) -> int:
        """How many places the name has now."""
        return self._taken[name]
