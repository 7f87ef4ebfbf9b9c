"""Pure: an answer as it was some events ago.

Guarantees: `rewound(answer, before, since)` is the answer that became `answer` by the events
`since`, or None where the events do not tell.

Why it works this way: a reader who comes back with a cursor holds less than the row. What it holds
follows from the answer's first event on, but that costs as much as the answer is long. Nearly
always only texts grew since the cursor, or the answer ended; then the row, cut where the texts
ended, is what the reader holds. Two events must agree on that place: the last one before the cursor
and the first one behind it. A log with a hole, or one that repeats itself, is not believed.

Rejected: undoing `part`, `reset` and `start` (the events do not have the values that were there
before); taking the place from the first event behind the cursor alone (a reader loses text where
the log has a hole).
"""

from collections.abc import Iterable

from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.text import cut, utf16_length


def rewound(
    answer: Answer, before: Iterable[events.AnyEvent], since: Iterable[events.AnyEvent]
) -> Answer | None:
    """The answer without the events `since`; `before`: the last events ahead of those.

    All of them are events of this answer, in order.
    """
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
        part.become(cut(part.text, end - part.start))
    return earlier


def before_end(answer: Answer) -> Answer | None:
    """The answer without its end. None: an `invalid` call may have been cut off by the end."""
    if any(part.fields.get("state") == "invalid" for part in answer.parts):
        return None
    earlier = answer.copy()
    earlier.status, earlier.finish_reason = "streaming", None
    earlier.error = earlier.usage = earlier.by = None
    return earlier


def _ends_of(before: Iterable[events.AnyEvent]) -> dict[int, int]:
    """Where the texts of parts end, as far as these events tell."""
    ends: dict[int, int] = {}
    for event in before:
        if isinstance(event, events.Piece):
            ends[event.part] = event.offset + utf16_length(event.content)
        elif isinstance(event, events.PartEvent):
            ends.pop(event.part, None)
        elif isinstance(event, events.Reset):
            ends.clear()
    return ends
