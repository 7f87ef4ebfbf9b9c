"""tests.contracts.plans: what reads everything is found on both databases."""

from typing import Any

import pytest
from sqlmodel import col, select

from tests.contracts.plans import recorded, without_index
from tokenwire.models.store import Store
from tokenwire.models.tables import Message

EVERYTHING = {
    "a column without an index": select(Message.id).where(col(Message.content) == "x"),
    "a whole index": select(Message.id).order_by(col(Message.id)),
    "a part of a key that does not begin it": select(Message.id).where(col(Message.ordinal) == 1),
}


@pytest.mark.parametrize("query", EVERYTHING.values(), ids=EVERYTHING)
async def test_what_reads_everything_is_found(store: Store, query: Any) -> None:
    with recorded(store) as ran:
        async with store.reading() as session:
            await session.execute(query)
    assert len(await without_index(store, ran)) == 1


async def test_a_key_is_found(store: Store) -> None:
    with recorded(store) as ran:
        async with store.reading() as session:
            await session.execute(select(Message.id).where(col(Message.id) == "x"))
    assert "WHERE" in ran[-1]
    assert await without_index(store, ran) == []
