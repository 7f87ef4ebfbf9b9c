"""Queries of files that are parts of answers: images that a model made, say.

A file is stored before the event of its part, and never changes: its address has its digest.
Whoever may read the answer may read its files. They go with their message.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select, tuple_
from sqlmodel import col

from tokenwire.models.database import Database
from tokenwire.models.dialects import insert
from tokenwire.models.errors import FileTooLong, NotFound
from tokenwire.models.rows import is_held
from tokenwire.models.tables import Message, PartFile, Participant
from tokenwire.protocol.files import ANY_MEDIA_TYPE, digest_of

_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
MOST_FILES: Final = 1_000
"""The most files that go back to a provider with one conversation."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """Bytes of a file, and what they are."""

    media_type: str
    data: bytes


FileKey = tuple[str, str]
"""The id of a message, and the digest of a file of its answer: SHA-256 in hexadecimal."""


class Files(Database):
    """The queries of files: workers store them, people read them."""

    async def save_file(
        self, message_id: str, attempt: int, number: int, media_type: str, data: bytes
    ) -> str | None:
        """Store a file of the part `number`; its digest. None: the answer has ended, or a newer
        attempt has it. A file that is stored already is not stored again.

        Raises FileTooLong above the quota's `file_bytes`.
        """
        if self.quotas.file_bytes is not None and len(data) > self.quotas.file_bytes:
            raise FileTooLong(message_id)
        digest = digest_of(data)
        mine = select(col(Message.id)).where(is_held(message_id, attempt))
        async with self.writing() as session:
            if (await session.scalars(mine)).first() is None:
                return None
            row = insert(session, PartFile).values(
                message_id=message_id,
                digest=digest,
                number=number,
                media_type=checked_media_type(media_type),
                data=data,
            )
            await session.execute(row.on_conflict_do_nothing())
            return digest

    async def files(self, keys: Sequence[FileKey]) -> dict[FileKey, bytes]:
        """The bytes of these files; of too many, the last ones that fit in `history_bytes`."""
        if not keys:
            return {}
        columns = (col(PartFile.message_id), col(PartFile.digest))
        size = func.length(col(PartFile.data))
        async with self.reading() as session:
            rows = await session.execute(
                select(*columns, size).where(tuple_(*columns).in_(keys[-MOST_FILES:]))
            )
            sizes = {(message_id, digest): length for message_id, digest, length in rows}
            fitting = self._last_that_fit(keys, sizes)
            query = select(*columns, col(PartFile.data)).where(tuple_(*columns).in_(fitting))
            found = await session.execute(query)
            return {(message_id, digest): data for message_id, digest, data in found}

    def _last_that_fit(self, keys: Sequence[FileKey], sizes: dict[FileKey, int]) -> list[FileKey]:
        room, limit, found = 0, self.quotas.history_bytes, list[FileKey]()
        for key in reversed(keys):
            room += sizes.get(key, 0)
            if limit is not None and room > limit:
                break
            found.append(key)
        return found

    async def visible_file(self, message_id: str, digest: str, user_id: str) -> StoredFile:
        """The file, for a participant of its message's conversation. Raises NotFound."""
        query = (
            select(col(PartFile.media_type), col(PartFile.data))
            .join(Message, col(Message.id) == col(PartFile.message_id))
            .join(Participant, col(Participant.conversation_id) == col(Message.conversation_id))
            .where(
                col(PartFile.message_id) == message_id,
                col(PartFile.digest) == digest,
                col(Participant.user_id) == user_id,
            )
        )
        async with self.reading() as session:
            found = (await session.execute(query)).first()
        if found is None:
            raise NotFound("file")
        return StoredFile(*found)


def checked_media_type(media_type: str) -> str:
    """The media type without its parameters; what is none is any bytes."""
    plain = media_type.partition(";")[0].strip().lower()
    return plain if _MEDIA_TYPE.fullmatch(plain) else ANY_MEDIA_TYPE
