"""Who takes part in a conversation no more follows it no more: rows say who that is, the log tells the processes that relay it.

Rows and log change one after the other, and several processes may do that at once. So whoever has told the log looks at the rows again
and tells it once more if they have changed: the last to speak has seen what is true. What Redis was not told stays in the rows, and the
sweeper makes it good.
"""

import structlog

from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.streams.log import ports

log_line = structlog.get_logger(__name__)


async def announce(store: Store, log: ports.Log, conversation_id: str, user_id: str) -> None:
    """Revoke the user's tokens. Raises ports.LogError, StoreUnavailable.

    Taken back if they take part again meanwhile: that was told before this, and would be undone by it.
    """
    await log.revoke(conversation_id, user_id)
    if not await store.note_revocation(conversation_id, user_id, told=True):
        await take_back(store, log, conversation_id, user_id)


async def take_back(store: Store, log: ports.Log, conversation_id: str, user_id: str) -> None:
    """The user takes part again: their tokens are good. Raises ports.LogError, StoreUnavailable.

    Told again if they were removed again meanwhile, for the same reason.
    """
    await log.restore(conversation_id, user_id)
    if await store.note_revocation(conversation_id, user_id, told=False):
        await announce(store, log, conversation_id, user_id)


async def announce_or_leave(
    store: Store, log: ports.Log, conversation_id: str, user_id: str
) -> None:
    """The same; what cannot be told now is left to the sweeper."""
    try:
        await announce(store, log, conversation_id, user_id)
    except (ports.LogError, StoreUnavailable) as error:
        log_line.warning(
            "removal is recorded, Redis was not told",
            conversation_id=conversation_id,
            error=repr(error),
        )
