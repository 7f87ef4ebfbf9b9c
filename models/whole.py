"""Completes the rows of answers with parts at the end of the transaction that loaded them.

Guarantees: a `Message` that a transaction of `database.py` returns holds its whole text, its
layout and its kept values as of that transaction, whether the answer has ended or not.

Why it works this way: `content` of an unfinished row is only the text that still grows. A function
that took it for the answer would lose text, and a dozen functions read rows. So none of them loads
parts. Instead, the session notes each row that has parts, and the end of the transaction reads
them. Rows without parts cost nothing, and a query is sent only if there are rows with parts.

Rejected: a relationship that loads with each query (one more query for every row that is read);
columns that raise until they are loaded (each of these functions must then know of parts).
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
    """Read the parts of all rows that this session has loaded, and complete the rows.

    A writing transaction of PostgreSQL sees what others commit meanwhile. So a row that was saved
    since it was read is read again: its text and its parts must belong to one checkpoint.
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
    """The stored parts by message, and the version of each row that they belong to."""
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
        set_committed_value(row, name, value)  # no change, so it is never written back
