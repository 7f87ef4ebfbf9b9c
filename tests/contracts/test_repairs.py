"""Misfits of documents in SQL: stored once, with the text that they are about."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.contracts.calls import Asked, LostCommits, asked, call, checkpoint, raced
from tests.contracts.plans import recorded, without_index
from tests.contracts.test_calls import ending
from tokenwire.models.answers import Checkpoint
from tokenwire.models.errors import StoreUnavailable
from tokenwire.models.store import Store

MISFIT: dict[str, Any] = {"text": '{"town": "Oslo"}', "errors": ["#/city: is missing"]}


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Store]:
    """Another process's store on the same database."""
    opened = Store.open(database_url)
    yield opened
    await opened.aclose()


def withdrawn(answer: Asked, saves: int = 2, attempt: int = 1) -> Checkpoint:
    """The answer behind one call, without its misfit."""
    return replace(checkpoint(answer.id, attempt, 1, saves), content="kept")


async def test_a_misfit_is_stored_with_the_answer_as_it_is(store: Store) -> None:
    """In one transaction: the text that was taken back is in neither column."""
    answer = await asked(store, call(0))
    assert await store.begin_repair(withdrawn(answer), MISFIT)
    row = await answer.row()
    assert (row.misfit, row.content, row.part_count, row.saves) == (MISFIT, "kept", 1, 2)
    assert await answer.states() == ["proposed"]


async def test_a_later_checkpoint_stays(store: Store) -> None:
    """The batch of checkpoints may be faster."""
    answer = await asked(store, call(0))
    await store.checkpoint([replace(withdrawn(answer, 3), content="later")])
    assert await store.begin_repair(withdrawn(answer, 2), MISFIT)
    row = await answer.row()
    assert (row.misfit, row.content, row.saves) == (MISFIT, "later", 3)


async def test_a_commit_of_unknown_outcome_is_repeated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await asked(store, call(0))
    LostCommits(store, monkeypatch).left = 1
    with pytest.raises(StoreUnavailable):
        await store.begin_repair(withdrawn(answer), MISFIT)
    assert await store.begin_repair(withdrawn(answer), MISFIT)
    assert (await answer.row()).misfit == MISFIT


async def test_who_lost_the_answer_stores_nothing(store: Store) -> None:
    """To another attempt, or to its end."""
    answer = await asked(store, call(0))
    assert await store.begin_attempt(answer.id, 2, "m")
    assert not await store.begin_repair(withdrawn(answer), MISFIT)
    assert await store.finish(replace(ending(answer.id), attempt=2))
    assert not await store.begin_repair(withdrawn(answer, attempt=2), MISFIT)
    row = await answer.row()
    assert (row.misfit, row.content) == (None, ending(answer.id).content)


async def test_a_repair_and_a_takeover_at_the_same_time(store: Store, other: Store) -> None:
    """Whichever is first: what was stored is whole, and who was late is told so."""
    for _ in range(8):
        answer = await asked(store, call(0))
        stored, begun = await raced(
            store.begin_repair(withdrawn(answer), MISFIT), other.begin_attempt(answer.id, 2, "m")
        )
        assert begun
        row = await answer.row()
        assert (row.misfit, row.content) == ((MISFIT, "kept") if stored else (None, ""))


async def test_statements_of_a_repair_use_the_key(store: Store) -> None:
    """It reads and writes one answer."""
    answer = await asked(store, call(0))
    with recorded(store) as ran:
        assert await store.begin_repair(withdrawn(answer), MISFIT)
    about = {text for text in ran if "messages" in text or "unfinished_parts" in text}
    assert len(about) >= 3
    assert await without_index(store, about) == []
