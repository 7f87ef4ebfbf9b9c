"""Pure: the answer as it was before its latest events.

Guarantees: the events `since` turn `rewound(answer, before, since)` into `answer`. The result is
None if the events do not prove it.

Why it works this way: a reader who comes back with a cursor holds less than the row. To fold all
events up to the cursor costs as much as the answer is long. But nearly always only texts grew
since the cursor, or the answer ended. Then the reader holds the row, with its texts cut off where
they ended at the cursor. Two events must agree on that offset: the last one before the cursor and
the first one behind it. So a log with a hole, or with repeated text, gives None.

Rejected: undoing `part`, `reset` and `start` (the events do not have the values that were there
before); taking the offset from the first event behind the cursor alone (a reader would lose text
if the log has a hole).
"""

from collections.abc import Iterable
from typing import Final

from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.states import CLOSED_BY_END
from tokenwire.protocol.text import cut, utf16_length


def rewound(
    answer: Answer, before: Iterable[events.AnyEvent], since: Iterable[events.AnyEvent]
) -> Answer | None:
    """The answer without the events `since`, or None. `before`: the last events ahead of those.

    All of them are events of this answer, in order.
    """
    before = list(before)
    ends, cuts, earlier = _ends_of(before), dict[int, int](), answer.copy()
    for event in since:
        if isinstance(event, events.Piece):
            if event.part not in cuts and ends.get(event.part) != event.offset:
                return None
            cuts.setdefault(event.part, event.offset)
        elif isinstance(event, events.Terminal) and (unended := before_end(answer)):
            earlier = unended
        else:
            return None
    for number, end in cuts.items():
        if not 0 <= number < len(earlier.parts):
            return None
        part = earlier.parts[number]
        part.set_text(cut(part.text, end - part.start))
    if before and isinstance(before[-1], events.Wait):
        earlier.status = "waiting"
    return earlier


def before_end(answer: Answer) -> Answer | None:
    """The answer without its end. None if a call has a state that the end may have given it."""
    if any(part.fields.get("state") in _OF_ENDS for part in answer.parts):
        return None
    return without_end(answer)


_OF_ENDS: Final = frozenset(CLOSED_BY_END.values())


def without_end(answer: Answer) -> Answer:
    """A copy that has not ended. Its calls are as the end left them."""
    earlier = answer.copy()
    earlier.status, earlier.finish_reason = "streaming", None
    earlier.error = earlier.usage = earlier.by = None
    return earlier


def _ends_of(before: Iterable[events.AnyEvent]) -> dict[int, int]:
    """The offset at which each part's text ends, by number, as far as these events show it."""
    ends: dict[int, int] = {}
    for event in before:
        if isinstance(event, events.Piece):
            ends[event.part] = event.offset + utf16_length(event.content)
        elif isinstance(event, events.PartEvent):
            ends.pop(event.part, None)
        elif isinstance(event, events.Reset):
            ends.clear()
    return ends
