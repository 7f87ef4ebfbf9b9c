"""Makes the `Ending` of an answer, which SQL commits and the terminal event announces.

All of them are made here: for the attempt that wrote the answer, for a process that ends the answer
instead of it, and for a process that announces the end that a row holds.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import msgspec

from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.parts import whole
from tokenwire.models.tables import Message
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer, from_view
from tokenwire.protocol.states import EndedStatus
from tokenwire.worker.resume.continuation import Held


def make_ending(
    status: EndedStatus, held: Held, attempt: int, epoch: str | None, **facts: Any
) -> Ending:
    """The ending of an answer by `attempt`. `held`: what readers hold; its `seq` counts in `epoch`.

    `facts`: the optional fields of `Ending`.
    """
    answer = held.answer
    if any(part.type == "tool_call" for part in answer.parts):
        answer = answer.copy()  # the end itself shows readers how it closes calls
        answer.close_calls(status, facts.get("finish_reason"))
    return Ending(
        message_id=answer.id,
        attempt=attempt,
        status=status,
        epoch=epoch,
        seq=held.seq,
        **whole(answer)._asdict(),
        **facts,
    )


def ending_of(row: Message) -> Ending:
    """The ending that the row of an ended answer holds."""
    return Ending(
        message_id=row.id,
        attempt=row.attempt,
        status=cast("EndedStatus", row.status),
        content=row.content,
        reasoning=row.reasoning,
        epoch=row.epoch,
        seq=row.seq,
        parts=row.parts,
        parts_kept=row.parts_kept,
        finish_reason=row.finish_reason,
        error=row.error,
        usage=row.usage,
        seams=row.seams,
        cancel_by=row.cancel_by,
    )


def ended_answer(ending: Ending) -> Answer:
    """The answer as readers hold it after the terminal event."""
    names = ("status", "attempt", "content", "reasoning", "parts")
    facts = ("finish_reason", "error", "usage", "seams")
    fields = {name: getattr(ending, name) for name in (*names, *facts)}
    return from_view({"id": ending.message_id, "by": ending.cancel_by, **fields})


def usage_fields(usage: events.Usage | None) -> dict[str, Any] | None:
    """The usage as `Ending` holds it."""
    fields: dict[str, Any] | None = msgspec.to_builtins(usage)
    return fields


def text_only(ending: Ending) -> Ending:
    """The ending with its text alone, for a database that refuses the rest."""
    ending = replace(ending, parts=None, parts_kept=None, object=None)
    return replace(ending, usage=None, seams=None, finish_reason=None)


def as_lossy_end(ending: Ending) -> Ending:
    """`text_only`, for the end of an attempt: an answer that lost a part is not complete."""
    if ending.status == "complete":
        ending = replace(ending, status="error", error=events.INTERNAL_ERROR)
    return text_only(ending)


def smaller_checkpoints(checkpoint: Checkpoint) -> Iterator[Checkpoint]:
    """The checkpoint, then smaller ones to try if the database refuses it.

    The second one lacks the provider's run. The last one has the text alone.
    """
    yield checkpoint
    runless = replace(
        checkpoint,
        run_id=None,
        run_cursor=None,
        run_parts=None,
        run_text=None,
        run_reasoning=None,
    )
    yield runless
    yield replace(runless, reported=None, changes=checkpoint.changes.text_only())
