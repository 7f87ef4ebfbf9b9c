"""What SQL holds is announced: appended to the log, and then noted in the row as announced.

The append comes first. After a crash between the two it is announced once more, and the log takes
nothing twice. The other order could lose it.

How long to wait, and what to do about a failure, callers decide: a request gives up after a second,
the sweeper comes again.
"""

import structlog

from tokenwire.models.store import Store
from tokenwire.models.tables import Conversation, Message
from tokenwire.models.views import announced_view
from tokenwire.protocol.events import MessageEvent, Title
from tokenwire.streams.log import ports

log_line = structlog.get_logger(__name__)


async def append_message(log: ports.Log, row: Message) -> None:
    """Append the row's `message` event. The caller notes it: a post notes both of its rows at once.

    Raises ports.Gone, ports.LogUnavailable.
    """
    event = MessageEvent(announced_view(row))
    await log.announce(row.conversation_id, row.id, row.rev, event)


async def announce_message(store: Store, log: ports.Log, row: Message) -> None:
    """Announce a row as it is now. In a deleted conversation nothing is to be announced.

    Raises ports.LogUnavailable, StoreUnavailable.
    """
    try:
        await append_message(log, row)
    except ports.Gone:
        log_line.info("nothing to announce in a deleted conversation", message_id=row.id)
    await store.mark_announced(row.id, row.rev)


async def announce_title(store: Store, log: ports.Log, row: Conversation) -> None:
    """The same for the title of a conversation."""
    try:
        await log.announce(row.id, row.id, row.rev, Title(row.title or "", row.rev))
    except ports.Gone:
        log_line.info("nothing to announce in a deleted conversation", conversation_id=row.id)
    await store.mark_title_announced(row.id, row.rev)
