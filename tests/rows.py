"""What tests do to rows and read from them, and the program never does in this way."""

from tokenwire.models.store import Store
from tokenwire.models.tables import Storage


async def take_part(store: Store, conversation_id: str, user_id: str) -> None:
    """Let a user take part, by an invitation that is accepted at once. Raises NotFound."""
    await store.invite(conversation_id, "somebody", user_id, limit=100, open_limit=100)
    await store.accept_invitation(conversation_id, user_id)


async def stored_bytes(store: Store, user_id: str) -> int:
    """How much of their quota the user has taken."""
    async with store.reading() as session:
        row = await session.get(Storage, user_id)
    return 0 if row is None else row.bytes
