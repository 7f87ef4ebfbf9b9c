"""A lock across the processes of the tests: an installation must not run twice at once."""

import contextlib
import fcntl
from collections.abc import Iterator

from tokenwire.config.settings import ROOT


@contextlib.contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold the lock of this name; a second holder waits."""
    folder = ROOT / "var" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
