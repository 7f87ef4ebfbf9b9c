"""What viewers hold of a generation at this moment: the checkpoint in SQL with the log folded over it."""

import structlog

from models.tables import Message
from streams import ports
from worker.continuation import Held, fold

log_line = structlog.get_logger(__name__)
PAGE_EVENTS = 500


async def recover(log: ports.Log, row: Message, epoch: str) -> Held:
    """Fold the log of `epoch` over the row. A checkpoint of another epoch stands for itself: that log is gone."""
    held = Held(row.content, row.reasoning, tuple(row.tool_calls or ()), row.seq if row.epoch == epoch else 0)
    if row.epoch not in (None, epoch):
        return held
    after = held.seq
    while True:
        page = await log.read(row.conversation_id, epoch, after, PAGE_EVENTS)
        if not page.entries:
            break
        held = fold(held, row.id, page.entries)
        after = page.entries[-1].seq
    return held
