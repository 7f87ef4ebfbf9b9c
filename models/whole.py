"""Rows of answers with parts are whole before anybody sees them: what a transaction has loaded is
made whole when it ends.

Guarantees: a `Message` that a transaction of `database.py` gives away holds all its text, its
layout and what is kept, whether its answer has ended or not, as of that transaction.

Why it works this way: the `content` of an unfinished row is only the text that still grows. A
reader that took it for the answer would lose text, and there are a dozen readers. So none of them
loads parts: the session notes each row that has some, and the end of the transaction reads them.
It costs rows without parts nothing, and no query but where there is such a row.

Rejected: a relationship that loads with each query (one more query for every row that is read);
columns that raise until they are loaded (each reader must then know of parts).
"""

from typing import Any

from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import col

from tokenwire.models.parts import StoredPart, assembled, whole
from tokenwire.models.tables import Message, UnfinishedPart

_NOTED = "rows with parts"


def _note(row: Message, context: Any) -> None:
    if row.part_count:
        context.session.info.setdefault(_NOTED, []).append(row)


event.listen(Message, "load", _note)


async def make_whole(session: AsyncSession) -> None:
    """Read the parts of all rows that this session has loaded, and put them together."""
    rows: list[Message] = session.info.pop(_NOTED, [])
    if not rows:
        return
    stored: dict[str, list[StoredPart]] = {row.id: [] for row in rows}
    query = select(UnfinishedPart).where(col(UnfinishedPart.message_id).in_(stored))
    for part in await session.scalars(query):
        columns = (part.number, part.type, part.text, part.value, part.kept)
        stored[part.message_id].append(StoredPart(*columns))
    for row in rows:
        _assemble(row, stored[row.id])


def _assemble(row: Message, stored: list[StoredPart]) -> None:
    open_text, open_reasoning = (row.open_text, row.content), (row.open_reasoning, row.reasoning)
    found = whole(assembled(row.part_count, open_text, open_reasoning, stored))
    for name, value in found._asdict().items():
        set_committed_value(row, name, value)  # not as a change: nothing of it is written back
