"""One at a time, across the processes that share the tests: what is installed once must not be installed by two."""

import contextlib
import fcntl
from collections.abc import Iterator

from tokenwire.config.settings import ROOT


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock of this name; whoever comes second waits."""
    folder = ROOT / "var" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
