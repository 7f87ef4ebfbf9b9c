"""Pure: the states of an answer, the only list of them."""

from typing import Literal, get_args

UnfinishedStatus = Literal["queued", "streaming", "retrying", "waiting"]
EndedStatus = Literal["complete", "error", "cancelled"]
AnswerStatus = Literal[UnfinishedStatus, EndedStatus]

UNFINISHED: tuple[UnfinishedStatus, ...] = get_args(UnfinishedStatus)
"""The answer waits or is being written. `waiting` is reserved for approval by a person."""
ENDED: tuple[EndedStatus, ...] = get_args(EndedStatus)
"""The answer never changes again. The terminal events have the same names."""
