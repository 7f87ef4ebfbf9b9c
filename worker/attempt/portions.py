"""Pure: splits what a provider sent at once into portions.

To take all of it at once could delay other answers of the process beyond their leases.
"""

from collections.abc import Iterator, Sequence

from tokenwire.providers.base import (
    Delta,
    FileDelta,
    KeptDelta,
    ReasoningDelta,
    ReasoningEnd,
    RefusalDelta,
    TextDelta,
    ToolCallEnd,
)

MAX_DELTAS = 500
MAX_CHARS = 256 * 1024
_COUNTS = {KeptDelta: 25, ReasoningEnd: 25, FileDelta: 25, ToolCallEnd: MAX_DELTAS}
"""Each of these counts as so many deltas, because it is parsed and encoded as JSON."""


def portions(batch: Sequence[Delta]) -> Iterator[Sequence[Delta]]:
    """The deltas in order, a few at a time. A long text is split into pieces."""
    if len(batch) == 1 and _weight(batch[0]) <= MAX_DELTAS:
        yield batch  # nearly every batch of nearly every answer
        return
    portion: list[Delta] = []
    weight = 0
    for delta in batch:
        for piece in _pieces(delta):
            portion.append(piece)
            weight += _weight(piece)
            if weight >= MAX_DELTAS:
                yield portion
                portion, weight = [], 0
    if portion:
        yield portion


def _weight(delta: Delta) -> int:
    if isinstance(delta, TextDelta | ReasoningDelta | RefusalDelta):
        return 1 + len(delta.text) * MAX_DELTAS // MAX_CHARS
    return _COUNTS.get(type(delta), 1)


def _pieces(delta: Delta) -> Iterator[Delta]:
    if isinstance(delta, TextDelta | ReasoningDelta | RefusalDelta) and len(delta.text) > MAX_CHARS:
        for start in range(0, len(delta.text), MAX_CHARS):
            yield type(delta)(delta.text[start : start + MAX_CHARS])
    else:
        yield delta
