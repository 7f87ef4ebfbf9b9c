"""Pure: how an answer ends, as the one value that SQL commits and that the terminal event says.

Every `Ending` is made here: by the attempt that wrote the answer, by whoever ends it in the place
of that attempt, and by whoever announces the end that a row holds.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import msgspec

from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.protocol.states import Ended
from tokenwire.protocol.text import checksum, utf16_length
from tokenwire.worker.internal import INTERNAL_ERROR
from tokenwire.worker.resume.continuation import Held
from tokenwire.worker.resume.takeover import held_in


def make_ending(
    status: Ended, held: Held, message_id: str, attempt: int, epoch: str | None, **facts: Any
) -> Ending:
    """How `attempt` ends the answer, at `held`, whose `seq` counts in `epoch`.

    `facts`: the fields of `Ending` that not every end has.
    """
    return Ending(
        message_id=message_id,
        attempt=attempt,
        status=status,
        content=held.text,
        reasoning=held.reasoning,
        tool_calls=list(held.tool_calls) or None,
        epoch=epoch,
        seq=held.seq,
        **facts,
    )


def ending_of(row: Row) -> Ending:
    """The ending that the row of an ended answer holds."""
    return make_ending(
        cast("Ended", row.status),
        held_in(row),
        row.id,
        row.attempt,
        row.epoch,
        finish_reason=row.finish_reason,
        error=row.error,
        usage=row.usage,
        seams=row.seams,
        cancel_by=row.cancel_by,
        kept=row.kept,
    )


def usage_fields(usage: events.Usage | None) -> dict[str, Any] | None:
    """As `Ending` holds it."""
    fields: dict[str, Any] | None = msgspec.to_builtins(usage)
    return fields


def bare(ending: Ending) -> Ending:
    """The ending with its text alone: what is left to store if the database refuses the rest."""
    ending = replace(ending, tool_calls=None, kept=None, parts=None, parts_kept=None)
    return replace(ending, usage=None, seams=None, finish_reason=None)


def reduced(ending: Ending) -> Ending:
    """The same, of an attempt's own end: an answer that has lost a part is not called complete."""
    if ending.status == "complete":
        ending = replace(ending, status="error", error=INTERNAL_ERROR)
    return bare(ending)


def lesser(checkpoint: Checkpoint) -> Iterator[Checkpoint]:
    """The checkpoint, and what is left to save if the database refuses it.

    First all but the provider's run, then the text alone.
    """
    yield checkpoint
    runless = replace(checkpoint, run_id=None, run_cursor=None, run_text=None, run_reasoning=None)
    yield runless
    changes = checkpoint.changes.bare()
    yield replace(runless, tool_calls=None, kept=None, reported=None, changes=changes)


def terminal_event(ending: Ending) -> events.Terminal:
    """The one event that seals an answer, from what was committed."""
    usage = events.Usage(**ending.usage) if ending.usage else None
    length, crc32 = utf16_length(ending.content), checksum(ending.content)
    who = ending.message_id, ending.attempt
    if ending.status == "complete":
        reason = cast("events.FinishReason", ending.finish_reason or "unknown")
        return events.Complete(*who, reason, usage, length, crc32, list(ending.seams or ()))
    if ending.status == "cancelled":
        return events.Cancelled(*who, ending.cancel_by or "unknown", usage, length, crc32)
    error = ending.error or cast("dict[str, Any]", INTERNAL_ERROR)
    return events.Error(
        *who, error["code"], error["error"], error["retryable"], usage, length, crc32
    )
