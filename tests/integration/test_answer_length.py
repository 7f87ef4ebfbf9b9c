"""An endless provider: its answer ends as `length`, and so do its costs."""

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest

from tests.integration.worker_rig import NoJobs, Script, events_of, services_over, text_of
from tokenwire.config.terms import AnswerTerms
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.spec import ModelSpec
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models, WorkerServices
from tokenwire.worker.sweeper.run_ender import RunEnder

LIMIT = 20_000


@dataclass
class Looping(Script):
    """Repeats the same text for ever."""

    said: int = 0

    async def __aiter__(self) -> AsyncIterator[Sequence[base.Delta]]:
        for number in itertools.count():
            self.said += 1
            assert self.said < 1000, "read on and on"
            self.cursor = number
            yield [base.TextDelta("again and ")] * 10


@pytest.fixture
async def row(sqlite_store: Store) -> Row:
    conversation = await sqlite_store.create_conversation("me")
    return (await sqlite_store.post(Post(conversation.id, "me", "hi", "m"))).assistant_message


def over(services: WorkerServices, provider: base.Provider) -> Runner:
    catalogue = Catalogue(
        default="m",
        title_model="m",
        models={"m": ModelSpec(name="m", provider="scripted", model="m")},
        missing={},
    )
    return Runner(
        replace(services, terms=AnswerTerms(max_answer_bytes=LIMIT)),
        Models(catalogue, lambda _spec: provider),
    )


async def test_an_endless_answer_ends(
    sqlite_store: Store, row: Row, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the visible text, as complete, billed by an estimate."""
    script, log = Looping([]), MemoryLog()
    await over(services_over(sqlite_store, log, NoJobs()), script).generate(row.id)
    ended = await sqlite_store.message(row.id)
    assert ended is not None
    assert (ended.status, ended.finish_reason, len(ended.content)) == ("complete", "length", LIMIT)
    assert ended.usage
    assert ended.usage["estimated"]
    assert script.closed, "the connection is left"
    told = await events_of(log, row)
    assert text_of(told) == ended.content
    assert isinstance(told[-1], events.Complete)
    assert (told[-1].finish_reason, told[-1].length) == ("length", LIMIT)
    assert "it has reached its limits" in capsys.readouterr().out


async def test_its_run_is_ended_at_the_provider(sqlite_store: Store, row: Row) -> None:
    """Otherwise it would continue without us, on the user's bill."""
    script = Looping([], run_id="run-1")
    await over(services_over(sqlite_store, MemoryLog(), NoJobs()), script).generate(row.id)
    run_ender = RunEnder(sqlite_store, lambda _model: script)
    await run_ender.carry_out()
    await run_ender.settled()
    assert script.ended == ["run-1"]
