"""Pure: the states of an answer, the only list of them."""

from typing import Literal, get_args

Unfinished = Literal["queued", "streaming", "retrying", "waiting"]
Ended = Literal["complete", "error", "cancelled"]
State = Literal[Unfinished, Ended]

UNFINISHED: tuple[Unfinished, ...] = get_args(Unfinished)
"""It waits or is being written; `waiting` is kept for what a person has to allow first."""
ENDED: tuple[Ended, ...] = get_args(Ended)
"""It never changes again. The terminal events have these names, too."""
