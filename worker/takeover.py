"""What viewers hold of a generation at this moment: the checkpoint in SQL with the log folded over it."""

import structlog

from models.tables import Message
from streams import ports
from worker.continuation import Held, fold

log_line = structlog.get_logger(__name__)
PAGE_EVENTS = 500


async def recover(log: ports.Log, row: Message, epoch: str) -> Held:
    """Fold the log of `epoch` over the row. A checkpoint of another epoch comes before everything that this log holds.

    Where the log was trimmed beyond the row's seq it is folded from its oldest event: what a running generation appended after its
    checkpoint is never trimmed.
    """
    held = Held(row.content, row.reasoning, tuple(row.tool_calls or ()), row.seq if row.epoch == epoch else 0)
    after = held.seq
    while True:
        page = await log.read(row.conversation_id, epoch, after, PAGE_EVENTS)
        if not page.entries:
            if after >= page.oldest - 1:
                return held
            after = page.oldest - 1
            continue
        held = fold(held, row.id, page.entries)
        after = page.entries[-1].seq
