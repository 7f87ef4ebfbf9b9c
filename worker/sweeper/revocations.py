"""Revokes the tokens of users who were removed from a conversation.

Rows hold the removals, and the log passes them on to the processes that relay it. Rows and log
change one after the other, and several processes may change them at once. So a process that changed
the log reads the rows again, and changes the log once more if they differ. The last process to
change it has then seen the final rows. If Redis is away, the sweeper revokes later.
"""

import structlog

from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.streams.log import ports

log_line = structlog.get_logger(__name__)


async def revoke(store: Store, log: ports.Log, conversation_id: str, user_id: str) -> None:
    """Revoke the user's tokens. Raises ports.LogError, StoreUnavailable.

    If the user was invited again meanwhile, the revocation is taken back.
    """
    await log.revoke(conversation_id, user_id)
    if not await store.note_revocation(conversation_id, user_id, announced=True):
        await take_back(store, log, conversation_id, user_id)


async def take_back(store: Store, log: ports.Log, conversation_id: str, user_id: str) -> None:
    """Take a revocation back. Raises ports.LogError, StoreUnavailable.

    If the user was removed again meanwhile, their tokens are revoked again.
    """
    await log.readmit(conversation_id, user_id)
    if await store.note_revocation(conversation_id, user_id, announced=False):
        await revoke(store, log, conversation_id, user_id)


async def revoke_or_leave(store: Store, log: ports.Log, conversation_id: str, user_id: str) -> None:
    """Revoke the user's tokens. If the log is away, leave it to the sweeper."""
    try:
        await revoke(store, log, conversation_id, user_id)
    except (ports.LogError, StoreUnavailable) as error:
        log_line.warning(
            "removal is recorded, Redis is away",
            conversation_id=conversation_id,
            error=repr(error),
        )
