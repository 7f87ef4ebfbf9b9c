"""Who takes part in a conversation no more follows it no more: rows say who that is, the log tells the processes that relay it.

What Redis was not told stays in the rows, and the sweeper makes it good.
"""

import structlog

from models.errors import StoreUnavailable
from models.store import Store
from streams import ports

log_line = structlog.get_logger(__name__)


async def tell(store: Store, log: ports.Log, conversation_id: str, user_id: str, seconds: float) -> None:
    """Revoke the user's tokens, which are good for `seconds` at most. Raises ports.LogError, StoreUnavailable.

    Taken back if they take part again meanwhile: that was told before this, and would be undone by it.
    """
    await log.revoke(conversation_id, user_id, seconds)
    if not await store.revocation_told(conversation_id, user_id):
        await log.restore(conversation_id, user_id)


async def tell_or_leave(store: Store, log: ports.Log, conversation_id: str, user_id: str, seconds: float) -> None:
    """The same; what cannot be told now is left to the sweeper."""
    try:
        await tell(store, log, conversation_id, user_id, seconds)
    except (ports.LogError, StoreUnavailable) as error:
        log_line.warning("removal is recorded, Redis was not told", conversation_id=conversation_id, error=repr(error))
