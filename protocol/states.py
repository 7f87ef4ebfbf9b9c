"""Pure: the states of an answer, the only list of them."""

from typing import Literal, get_args

Unfinished = Literal["queued", "streaming", "retrying", "waiting"]
Ended = Literal["complete", "error", "cancelled"]
State = Literal[Unfinished, Ended]

UNFINISHED: tuple[Unfinished, ...] = get_args(Unfinished)
"""The answer waits or is being written. `waiting` is reserved for approval by a person."""
ENDED: tuple[Ended, ...] = get_args(Ended)
"""The answer never changes again. The terminal events have the same names."""
