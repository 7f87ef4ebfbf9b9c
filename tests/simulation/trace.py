"""What happened, in order: the last lines for a reader, and a hash of all of them, which proves a
replay.
"""

import hashlib
from collections import deque
from collections.abc import Callable

_QUIET = (
    "jobs lead",
    "jobs waiting",
    "sql outstanding",
    "sql to_cancel",
    "sql begun",
    "sql heads",
    "sql ended",
    "sql un",
    "sql runs_to_end",
    "log new_server",
    "log note_time",
)
"""What sweepers ask twice a second: part of the hash, not shown."""


class Trace:
    """`clock` gives virtual seconds."""

    def __init__(self, clock: Callable[[], float], keep: int = 2000) -> None:
        self._clock = clock
        self._hash = hashlib.blake2b(digest_size=8)
        self._last: deque[str] = deque(maxlen=keep)
        self.lines = 0

    def add(self, who: str, what: str) -> None:
        """`who` did or saw `what`, now."""
        line = f"{self._clock():11.6f}  {who:12} {what}"
        self._hash.update(line.encode("utf-8", "surrogatepass"))
        self.lines += 1
        if not (what.startswith(_QUIET) and what.endswith(" ok")):
            self._last.append(line)

    def digest(self) -> str:
        """The same for the same seed and code, whatever machine and process."""
        return self._hash.hexdigest()

    def tail(self, count: int) -> list[str]:
        """The last lines."""
        return list(self._last)[-count:]
