"""What viewers hold of a generation at this moment: the checkpoint in SQL with the log folded over it."""

from dataclasses import replace

import structlog

from models.tables import Message
from streams import ports
from worker.continuation import Held, fold

log_line = structlog.get_logger(__name__)
PAGE_EVENTS = 500


async def recover(log: ports.Log, row: Message, claim: ports.Claim, lease_seconds: float) -> tuple[ports.Claim, Held]:
    """What the holder of `claim` goes on from, and the claim to go on with (batch index 0). Raises like `Log.read` and `Log.adopt`.

    A log that began again since the checkpoint is given the text first: the checkpoint may be younger than the row that its viewers
    began with.
    """
    held = await _folded(log, row, claim.epoch)
    if row.epoch in (None, claim.epoch):
        return claim, held
    adopted, done = await log.adopt(claim, held.text, held.reasoning, lease_seconds)
    return adopted, replace(held, seq=done.last_seq)


async def recover_anyway(log: ports.Log, row: Message, claim: ports.Claim, lease_seconds: float) -> tuple[ports.Claim, Held]:
    """For an end that must come: the same, but where the log and the row do not fit together, the row's text is told to viewers instead.

    Raises like `Log.read` and `Log.adopt`, and nothing else.
    """
    try:
        return await recover(log, row, claim, lease_seconds)
    except ports.LogError:
        raise
    except Exception:  # whatever it is: nobody goes on from this log
        log_line.exception("the log does not continue the row", message_id=row.id)
    claim, done = await log.adopt(claim, row.content, row.reasoning, lease_seconds)
    return claim, Held(row.content, row.reasoning, tuple(row.tool_calls or ()), done.last_seq)


async def _folded(log: ports.Log, row: Message, epoch: str) -> Held:
    """The log of `epoch` over the row. A checkpoint of another epoch comes before everything that this log holds.

    Where the log was trimmed beyond the row's seq it is folded from its oldest event: what a running generation appended after its
    checkpoint is never trimmed.
    """
    held = Held(row.content, row.reasoning, tuple(row.tool_calls or ()), row.seq if row.epoch == epoch else 0)
    after = held.seq
    while True:
        page = await log.read(row.conversation_id, epoch, after, PAGE_EVENTS)
        if page.entries:
            held = fold(held, row.id, page.entries)
            after = page.entries[-1].seq
        elif page.epoch == epoch and after < page.oldest - 1:
            after = page.oldest - 1
        else:
            return held
