"""Changes and reads of rows that only tests need."""

from tokenwire.models.store import Store
from tokenwire.models.tables import Storage


async def take_part(store: Store, conversation_id: str, user_id: str) -> None:
    """Add a participant, by an accepted invitation. Raises NotFound."""
    await store.invite(conversation_id, "somebody", user_id, limit=100, open_limit=100)
    await store.accept_invitation(conversation_id, user_id)


async def stored_bytes(store: Store, user_id: str) -> int:
    """The user's used quota."""
    async with store.reading() as session:
        row = await session.get(Storage, user_id)
    return 0 if row is None else row.bytes
