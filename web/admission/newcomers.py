"""Pure: sockets without a login, limited in total and per address; the oldest makes room for a new
one.

If new ones were refused instead, a few silent sockets would lock out everybody who logs in by a
frame.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Leave = Callable[[], None]


class _Newcomer:
    """One of them, compared by identity."""

    def __init__(self, address: str | None, leave: Leave) -> None:
        self.address, self.leave = address, leave


class Newcomers:
    """`most` in total, `most_of_address` for one address (None: not counted)."""

    def __init__(self, most: int, most_of_address: int) -> None:
        self._most, self._most_of_address = most, most_of_address
        self._all: dict[_Newcomer, None] = {}
        self._addresses: defaultdict[str, dict[_Newcomer, None]] = defaultdict(dict)

    @contextmanager
    def held(self, address: str | None, leave: Leave) -> Iterator[None]:
        """Count as one of them. `leave` is called when there is no room any more."""
        if address is not None and len(self._addresses.get(address, ())) >= self._most_of_address:
            self._dismiss(next(iter(self._addresses[address])))
        if len(self._all) >= self._most:
            self._dismiss(next(iter(self._all)))
        one = _Newcomer(address, leave)
        self._all[one] = None
        if address is not None:
            self._addresses[address][one] = None
        try:
            yield
        finally:
            self._forget(one)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._all)

    def _dismiss(self, one: _Newcomer) -> None:
        self._forget(one)
        one.leave()

    def _forget(self, one: _Newcomer) -> None:
        self._all.pop(one, None)
        if one.address is not None and one.address in self._addresses:
            self._addresses[one.address].pop(one, None)
            if not self._addresses[one.address]:
                del self._addresses[one.address]
