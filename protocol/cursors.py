"""Pure: a cursor is `epoch:seq`, in every dialect. `seq` 0 stands before the first event."""

import re
from typing import NamedTuple

_TEXT = re.compile(r"([0-9A-Za-z]{1,32}):(0|[1-9][0-9]{0,15})")


class Cursor(NamedTuple):
    """A point in one life of one log: everything up to and including `seq` has been seen."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.seq}"


def parse(text: str) -> Cursor:
    """Read `epoch:seq`. Raises ValueError for anything else."""
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError("a cursor looks like k3f9:57")
    return Cursor(match[1], int(match[2]))
