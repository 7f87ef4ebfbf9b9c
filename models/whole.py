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

from collections.abc import Iterable
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
    """Read the parts of all rows that this session has loaded, and put them together.

    A writing transaction of PostgreSQL sees what others commit meanwhile. A row that was saved
    since it was read is read again: its own text and its parts must be of one checkpoint.
    """
    rows: dict[str, Message] = {row.id: row for row in session.info.pop(_NOTED, [])}
    while rows:
        versions, stored = await _read_parts(session, rows)
        changed = dict[str, Message]()
        for name, version in versions.items():
            row = rows[name]
            if version != (row.attempt, row.saves, row.part_count):
                await session.refresh(row)
                changed[name] = row
            elif row.part_count:
                _assemble(row, stored[name])
        rows = changed


_Versions = dict[str, tuple[int, int, int]]


async def _read_parts(
    session: AsyncSession, ids: Iterable[str]
) -> tuple[_Versions, dict[str, list[StoredPart]]]:
    """Parts by message, and which version of each row they belong to, all of one moment."""
    version = (col(Message.attempt), col(Message.saves), col(Message.part_count))
    query = (
        select(UnfinishedPart, col(Message.id), *version)
        .select_from(Message)
        .outerjoin(UnfinishedPart, col(UnfinishedPart.message_id) == col(Message.id))
        .where(col(Message.id).in_(ids))
    )
    versions: _Versions = {}
    stored: dict[str, list[StoredPart]] = {}
    for part, name, *numbers in await session.execute(query):
        versions[name] = (numbers[0], numbers[1], numbers[2])
        of_row = stored.setdefault(name, [])
        if part is not None:
            columns = (part.number, part.type, part.text, part.value, part.kept)
            of_row.append(StoredPart(*columns))
    return versions, stored


def _assemble(row: Message, stored: list[StoredPart]) -> None:
    open_text, open_reasoning = (row.open_text, row.content), (row.open_reasoning, row.reasoning)
    found = whole(assembled(row.part_count, open_text, open_reasoning, stored))
    for name, value in found._asdict().items():
        set_committed_value(row, name, value)  # not as a change: nothing of it is written back
