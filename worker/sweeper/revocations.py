"""Whoever no longer takes part in a conversation no longer follows it.

Rows say who that is; the log passes it on to the processes that relay it. Rows and log change one
after the other, and several processes may change them at once. So whoever changed the log reads the
rows again, and changes it once more if they differ: the last one to change it has seen the truth.
What Redis could not be told stays in the rows, and the sweeper makes it good.
"""

import structlog

from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.streams.log import ports

log_line = structlog.get_logger(__name__)


async def revoke(store: Store, log: ports.Log, conversation_id: str, user_id: str) -> None:
    """Revoke the user's tokens. Raises ports.LogError, StoreUnavailable.

    Taken back if they take part again meanwhile: this would undo what was announced before it.
    """
    await log.revoke(conversation_id, user_id)
    if not await store.note_revocation(conversation_id, user_id, announced=True):
        await take_back(store, log, conversation_id, user_id)


async def take_back(store: Store, log: ports.Log, conversation_id: str, user_id: str) -> None:
    """The user takes part again: their tokens are good. Raises ports.LogError, StoreUnavailable.

    Told again if they were removed again meanwhile, for the same reason.
    """
    await log.readmit(conversation_id, user_id)
    if await store.note_revocation(conversation_id, user_id, announced=False):
        await revoke(store, log, conversation_id, user_id)


async def revoke_or_leave(store: Store, log: ports.Log, conversation_id: str, user_id: str) -> None:
    """The same; what cannot be told now is left to the sweeper."""
    try:
        await revoke(store, log, conversation_id, user_id)
    except (ports.LogError, StoreUnavailable) as error:
        log_line.warning(
            "removal is recorded, Redis was not told",
            conversation_id=conversation_id,
            error=repr(error),
        )
