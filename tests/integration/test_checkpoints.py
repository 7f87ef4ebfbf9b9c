"""Checkpoints on real databases: an answer that cannot be saved affects no other."""

import asyncio
import math
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import psycopg
import pytest

from tests.poison import poison
from tokenwire.models import database
from tokenwire.models.answers import Checkpoint
from tokenwire.models.conversations import Post
from tokenwire.models.errors import GivenUp, StoreUnavailable
from tokenwire.models.store import Store
from tokenwire.worker import checkpoints, metrics
from tokenwire.worker.checkpoints import Checkpointer


class Running:
    """A running attempt with some text, and what makes it hard to save."""

    def __init__(self, message_id: str, **poison: Any) -> None:
        self.message_id = message_id
        self.poison = poison
        self.uncheckpointed = 1
        self.covered = 0
        self.text = "text"
        self.broken = False
        self.asked = 0

    def checkpoint(self) -> Checkpoint:
        self.asked += 1
        self.uncheckpointed = 0
        if self.broken:
            raise ValueError("a bug")
        return Checkpoint(self.message_id, 1, self.text, "", "e", 7, **self.poison)

    def saved(self, checkpoint: Checkpoint) -> None:
        self.covered = checkpoint.seq

    def not_saved(self) -> None:
        self.uncheckpointed += 1


async def started(store: Store) -> str:
    """The id of an answer that an attempt has begun."""
    conversation = await store.create_conversation("me")
    message_id = (await store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message.id
    assert await store.begin_attempt(message_id, 1, "m")
    return message_id


async def content(store: Store, message_id: str) -> str:
    row = await store.message(message_id)
    assert row is not None
    return row.content


def refused() -> float:
    """How many checkpoints of this process the database has refused."""
    return metrics.CHECKPOINTS_REFUSED._value.get()


POISON: list[dict[str, Any]] = [
    {"reported": {"before": {"x": math.nan}}},
    {"reported": {"before": {"x": math.inf}}},
    {"run_cursor": 2**70},
    {"reasoning_poison": "\ud83d"},
]


@pytest.mark.parametrize("values", POISON, ids=["nan", "infinity", "number", "surrogate"])
async def test_a_refused_row_affects_no_other(store: Store, values: dict[str, Any]) -> None:
    """On both databases, all others are saved in the same round and floors rise; the refusal is
    counted.
    """
    healthy = [Running(await started(store)) for _ in range(6)]
    sick = Running(
        await started(store),
        **{name: value for name, value in values.items() if name != "reasoning_poison"},
    )
    sick.text = values.get("reasoning_poison", "text")
    before = refused()
    await Checkpointer(store, 1.0, 500).save([*healthy[:3], sick, *healthy[3:]])
    assert [await content(store, attempt.message_id) for attempt in healthy] == ["text"] * 6
    assert [attempt.covered for attempt in healthy] == [7] * 6
    assert (await content(store, sick.message_id), sick.covered, refused() - before) == ("", 0, 1)


POISONED_ROWS = [
    *[
        pytest.param("postgresql", f"RAISE EXCEPTION 'x' USING ERRCODE = '{code}'", id=code)
        for code in ("XX001", "XX002", "54000")
    ],
    pytest.param("sqlite", "SELECT json('x')", id="sqlite"),
]


@pytest.mark.parametrize(("database_url", "failure"), POISONED_ROWS, indirect=["database_url"])
async def test_a_row_that_makes_the_database_fail_affects_no_other(
    store: Store, failure: str
) -> None:
    """A damaged row or index, or a limit of one row: drivers report it with the same error classes
    as an outage.
    """
    healthy = [Running(await started(store)) for _ in range(6)]
    sick, before = Running(await started(store)), refused()
    await poison(store, sick.message_id, failure)
    await Checkpointer(store, 1.0, 500).save([*healthy[:3], sick, *healthy[3:]])
    assert [await content(store, attempt.message_id) for attempt in healthy] == ["text"] * 6
    assert (await content(store, sick.message_id), sick.covered, refused() - before) == ("", 0, 1)


async def test_a_full_disk_is_an_outage(postgres_url: str) -> None:
    """It affects every row: none is set apart, and no halves are tried."""
    async with aclosing(Store.open(postgres_url)) as store:
        attempts, before = [Running(await started(store)) for _ in range(3)], refused()
        await poison(store, attempts[0].message_id, "RAISE EXCEPTION 'x' USING ERRCODE = '53100'")
        await Checkpointer(store, 1.0, 500).save(attempts)
        assert ([attempt.asked for attempt in attempts], refused() - before) == ([1] * 3, 0)


async def test_a_run_name_that_is_too_long_for_postgresql(store: Store) -> None:
    """SQLite accepts it. Whether it is saved or not, the others are."""
    healthy, sick = Running(await started(store)), Running(await started(store), run_id="r" * 256)
    await Checkpointer(store, 1.0, 500).save([sick, healthy])
    assert (await content(store, healthy.message_id), healthy.covered) == ("text", 7)


async def test_a_refused_row_is_retried_apart_and_rarely(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each round would pay for the search; once it can be saved, it is."""
    now = 0.0
    monkeypatch.setattr(checkpoints, "clock", lambda: now)
    healthy, sick = Running(await started(store)), Running(await started(store), run_cursor=2**70)
    checkpointer = Checkpointer(store, 1.0, 500)
    for _ in range(3):
        healthy.uncheckpointed = 1
        await checkpointer.save([healthy, sick])
    assert sick.asked == 2  # with the others, then alone
    sick.poison.clear()
    now = checkpoints.REFUSED_PAUSE_SECONDS
    await checkpointer.save([healthy, sick])
    assert (await content(store, sick.message_id), sick.covered) == ("text", 7)
    sick.uncheckpointed = 1
    await checkpointer.save([healthy, sick])
    assert sick.asked == 4


async def test_a_refused_answer_does_not_trigger_checkpoints(store: Store) -> None:
    """However much it grows: its size causes no early checkpoint."""
    sick = Running(await started(store), run_cursor=2**70)
    checkpointer = Checkpointer(store, 60.0, 500)
    await checkpointer.save([sick])
    sick.uncheckpointed = 10_000
    checkpointer.grown(sick)
    assert not checkpointer._early.is_set()


async def test_growth_causes_early_checkpoints_with_pauses(
    store: Store,
) -> None:
    """Long before the regular time, repeatedly while text comes; a pause between two leaves room
    for other statements.
    """
    fast = Running(await started(store))
    checkpointer = Checkpointer(store, 3600.0, 500)
    clock = asyncio.get_running_loop().time
    began, saved = clock(), 0
    running = asyncio.create_task(checkpointer.run(lambda: [fast]))
    async with asyncio.timeout(20):
        while saved < 5:
            fast.uncheckpointed, fast.covered = 500, 0
            checkpointer.grown(fast)
            while not fast.covered:  # a task that is cancelled during a commit may hang
                await asyncio.sleep(0.001)
            saved += 1
            assert (
                not checkpointer._early.is_set()
            )  # the early checkpoint is done: the next one comes at its regular time
    running.cancel()
    assert clock() - began >= 4 * checkpoints.MIN_PAUSE_SECONDS


async def test_an_attempt_whose_state_cannot_be_read_affects_no_other(store: Store) -> None:
    """Like a bug of ours in one of them."""
    healthy, sick = Running(await started(store)), Running(await started(store))
    sick.broken = True
    await Checkpointer(store, 1.0, 500).save([sick, healthy])
    assert (await content(store, healthy.message_id), sick.covered) == ("text", 0)


async def test_a_locked_row_affects_no_other(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another transaction locks one of seven answers: the others are saved in time, this one as
    soon as it is free.
    """
    monkeypatch.setattr(database, "LOCK_SECONDS", 60.0)
    store = Store.open(postgres_url, timeout_seconds=120.0)
    running = [Running(await started(store)) for _ in range(7)]
    locked, others = running[3], [*running[:3], *running[4:]]
    checkpointer, before = Checkpointer(store, 0.1, 500), refused()
    saving = asyncio.create_task(checkpointer.run(lambda: running))
    try:
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT id FROM messages WHERE id = %s FOR UPDATE", (locked.message_id,))
            for attempt in running:
                attempt.covered = 0
            for round_number in range(3):
                for attempt in others:
                    attempt.text, attempt.uncheckpointed, attempt.covered = (
                        f"text {round_number}",
                        1,
                        0,
                    )
                await _within(20, lambda: all(attempt.covered == 7 for attempt in others))
                assert [await content(store, attempt.message_id) for attempt in others] == [
                    f"text {round_number}"
                ] * 6
            locked.uncheckpointed = 10_000
            await _within(
                20, lambda: locked in checkpointer._locked
            )  # between two rounds, not within one
            checkpointer.grown(locked)
            assert not checkpointer._early.is_set()  # its size causes no early checkpoint
            assert locked.covered == 0
        await _within(20, lambda: locked.covered == 7)
        assert (await content(store, locked.message_id), refused() - before) == ("text", 0)
        locked.uncheckpointed = 10_000
        checkpointer.grown(locked)
        assert (
            checkpointer._early.is_set()
        )  # it is free again, and its size counts like that of any other
    finally:
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)
        await store.aclose()


async def _within(seconds: float, question: Callable[[], bool]) -> None:
    async with asyncio.timeout(seconds):
        while not question():
            await asyncio.sleep(0.01)


async def test_a_final_save_waits_for_its_row(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a retry, for example: skipped text would be lost. A row that stays locked is no
    outage.
    """
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.2)
    store = Store.open(postgres_url)
    try:
        attempt = Running(await started(store))
        with psycopg.connect(postgres_url) as other:
            other.execute("SELECT id FROM messages WHERE id = %s FOR UPDATE", (attempt.message_id,))
            with pytest.raises(GivenUp):
                await store.checkpoint([attempt.checkpoint()])
            assert await store.checkpoint([attempt.checkpoint()], wait=False) == {
                attempt.message_id
            }
        assert await store.checkpoint([attempt.checkpoint()]) == frozenset()
        assert await content(store, attempt.message_id) == "text"
    finally:
        await store.aclose()


async def test_an_outage_is_no_refusal(store: Store) -> None:
    """None is set apart: the next round saves all."""
    attempts = [Running(await started(store)) for _ in range(3)]
    checkpointer = Checkpointer(store, 1.0, 500)
    save, before = store.checkpoint, refused()

    async def away(items: Any, *, wait: bool) -> frozenset[str]:
        raise StoreUnavailable("away")

    store.checkpoint = away  # type: ignore[method-assign]
    await checkpointer.save(attempts)
    store.checkpoint = save  # type: ignore[method-assign]
    await checkpointer.save(attempts)
    assert ([attempt.covered for attempt in attempts], refused() - before) == ([7] * 3, 0)
