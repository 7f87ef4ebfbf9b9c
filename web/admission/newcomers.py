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
    """A socket without a login. Two of them are never equal."""

    def __init__(self, address: str | None, leave: Leave) -> None:
        self.address, self.leave = address, leave


class Newcomers:
    """The sockets without a login. At most `most` are open in total, and `most_of_address` of one
    address (None: an unknown address has no limit).
    """

    def __init__(self, most: int, most_of_address: int) -> None:
        self._most, self._most_of_address = most, most_of_address
        self._all: dict[_Newcomer, None] = {}
        self._addresses: defaultdict[str, dict[_Newcomer, None]] = defaultdict(dict)

    @contextmanager
    def held(self, address: str | None, leave: Leave) -> Iterator[None]:
        """Count a socket during the block. `leave` is called if a newer socket needs its place."""
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
        """The number of open sockets without a login."""
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
