"""One answer that the database refuses among a hundred that it accepts: real attempts, real
statements, round by round.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from tests.integration.worker_rig import NoJobs, Script, runner_over, services_over
from tokenwire.models.answers import Checkpoint
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.providers import base
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker import checkpoints
from tokenwire.worker.attempt.run import Attempt
from tokenwire.worker.checkpoints import Checkpointer

HEALTHY = 100
ROUNDS = 5
LOG2 = 7
"""Halvings until one of 101 is isolated."""


class Crowd:
    """Running answers that all write a word per round."""

    def __init__(self, store: Store) -> None:
        self.store, self.log, self.ids = store, MemoryLog(), list[str]()
        self.services = services_over(store, self.log, NoJobs())
        self.heard = asyncio.Event()
        self.rounds = [asyncio.Event() for _ in range(ROUNDS + 1)]
        """Set when the word of this round may be written."""
        self.runner = runner_over(self.services, _Words(self.rounds), continuation="prefix")
        self.running: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        for _ in range(HEALTHY + 1):
            conversation = await self.store.create_conversation("me", title="t")
            self.ids.append(
                (await self.store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message.id
            )
        self.running = [asyncio.create_task(self.runner.generate(name)) for name in self.ids]
        while len(self.attempts) < HEALTHY + 1:
            await asyncio.sleep(0.01)

    @property
    def attempts(self) -> list[Attempt]:
        return list(self.runner.running())

    async def said(self, number: int) -> None:
        """All have written the word of this round, and the log has it."""
        self.rounds[number].set()
        while any(attempt.draft.answer.content != _text(number) for attempt in self.attempts):
            await asyncio.sleep(0.01)

    async def contents(self, ids: Iterable[str]) -> set[str]:
        rows = [await self.store.message(name) for name in ids]
        return {row.content for row in rows if row is not None}


class _Words:
    """A provider that writes a word in each round."""

    stall_seconds = 600.0
    continuation = "prefix"

    def __init__(self, rounds: Sequence[asyncio.Event]) -> None:
        steps: list[Any] = []
        for number, event in enumerate(rounds[:-1]):
            steps += [event.wait, [base.TextDelta(f"{number} ")]]
        self.steps = [*steps, rounds[-1].wait, [base.Finish("stop")]]

    def stream(self, request: base.Request) -> Any:
        return Script(self.steps).stream(request)


def _text(number: int) -> str:
    return "".join(f"{word} " for word in range(number + 1))


@pytest.fixture
async def crowd(store: Store) -> AsyncIterator[Crowd]:
    crowd = Crowd(store)
    await crowd.begin()
    yield crowd
    for task in crowd.running:
        task.cancel()
    await asyncio.gather(*crowd.running, return_exceptions=True)


@pytest.mark.sampled(1)
@pytest.mark.timeout(300)
async def test_one_poisoned_answer_among_a_hundred(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each round saves the hundred; the poisoned one is isolated once and costs later rounds
    nothing; all of them end.
    """
    poisoned = next(
        attempt for attempt in crowd.attempts if attempt.message_id == crowd.ids[HEALTHY // 3]
    )
    take, statements, save = poisoned.checkpoint, 0, crowd.store.checkpoint

    async def counted(items: Sequence[Checkpoint], **options: Any) -> Any:
        nonlocal statements
        statements += 1
        return await save(items, **options)

    monkeypatch.setattr(checkpoints, "clock", float)  # a slow machine triggers no retry
    monkeypatch.setattr(crowd.store, "checkpoint", counted)
    monkeypatch.setattr(poisoned, "checkpoint", lambda: replace(take(), run_cursor=2**70))
    healthy = [name for name in crowd.ids if name != poisoned.message_id]
    checkpointer, took = Checkpointer(crowd.store, 1.0, 500), []
    for number in range(ROUNDS):
        await crowd.said(number)
        await checkpointer.save(crowd.attempts)
        took, statements = [*took, statements], 0
        assert await crowd.contents(healthy) == {_text(number)}
        assert await crowd.contents([poisoned.message_id]) == {""}
    assert took[0] <= 1 + 2 * LOG2
    assert set(took[1:]) == {1}
    crowd.rounds[ROUNDS].set()
    await asyncio.gather(*crowd.running)
    rows = [await crowd.store.message(name) for name in crowd.ids]
    assert {(row.status, row.content) for row in rows if row is not None} == {
        ("complete", _text(ROUNDS - 1))
    }
