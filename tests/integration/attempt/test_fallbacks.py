"""Another model answers where the answer's own cannot: `fallback` of the catalogue."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.worker_rig import NoJobs, Script, events_of, services_over, text_of
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.spec import ModelSpec
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models

ANSWER: list[Any] = [[base.TextDelta("It rains."), base.Finish("stop")]]


class World:
    """A worker with models `first`, `second` and `third`, and one answer of `first`."""

    def __init__(self, store: Store, row: Message, **fallback: list[str]) -> None:
        self.store, self.row, self.log = store, row, MemoryLog()
        self.specs = {
            name: ModelSpec(name, "scripted", name, fallback=fallback.get(name, []))
            for name in ("first", "second", "third")
        }

    async def work(self, scripts: Mapping[str, Script], attempts: int) -> Message:
        """Carry out so many attempts; the row afterwards."""
        present = {name: spec for name, spec in self.specs.items() if name in scripts}
        catalogue = Catalogue("first", "first", present, {})
        services = services_over(self.store, self.log, NoJobs())
        runner = Runner(services, Models(catalogue, lambda spec: scripts[spec.name]))
        for _ in range(attempts):
            await runner.generate(self.row.id)
        row = await self.store.message(self.row.id)
        assert row is not None
        return row


@pytest.fixture
async def row(sqlite_store: Store) -> Message:
    conversation = await sqlite_store.create_conversation("me")
    post = Post(conversation.id, "me", "Hello", "first", options={"seed": 1})
    return (await sqlite_store.post(post)).assistant_message


async def test_the_next_model_answers(sqlite_store: Store, row: Message) -> None:
    """One after the other; row and events name the one that answers."""
    found = World(sqlite_store, row, first=["second", "third"], second=["first"])
    scripts = {
        "first": Script([base.RateLimited("slow down", retry_after_s=60)]),
        "second": Script([base.AuthenticationFailed("no")]),
        "third": Script(ANSWER),
    }
    ended = await found.work(scripts, 3)
    assert (ended.status, ended.content) == ("complete", "It rains.")
    assert (ended.model, ended.first_model, ended.attempt) == ("third", "first", 3)
    told = await events_of(found.log, row)
    starts = [event.model for event in told if isinstance(event, events.Start)]
    retries = [event for event in told if isinstance(event, events.Retry)]
    assert starts == ["first", "second", "third"]
    assert [(retry.code, retry.delay_ms) for retry in retries] == [
        ("rate_limited", 0),
        ("authentication_failed", 0),
    ]
    assert text_of(told) == "It rains."


async def test_the_last_model_ends_the_answer(sqlite_store: Store, row: Message) -> None:
    """With its own error, as if it had been the first."""
    found = World(sqlite_store, row, first=["second"], second=["first"])
    scripts = {
        "first": Script([base.RateLimited("slow down")]),
        "second": Script([base.QuotaExhausted("pay")]),
    }
    ended = await found.work(scripts, 2)
    assert (ended.status, ended.error["code"]) == ("error", "quota_exhausted")
    assert ended.model == "second"


async def test_an_answer_that_has_begun_keeps_its_model(sqlite_store: Store, row: Message) -> None:
    """Words of two models would not fit together."""
    found = World(sqlite_store, row, first=["second"])
    scripts = {
        "first": Script([[base.TextDelta("It ")], base.AuthenticationFailed("no")]),
        "second": Script(ANSWER),
    }
    ended = await found.work(scripts, 1)
    assert (ended.status, ended.content) == ("error", "It ")
    assert (ended.model, ended.first_model) == ("first", None)
    assert scripts["second"].asked == []


async def test_models_that_cannot_answer_are_passed_over(sqlite_store: Store, row: Message) -> None:
    """One that this worker's catalogue lacks, and one that does not take a parameter."""
    found = World(sqlite_store, row, first=["second", "third"])
    found.specs["third"] = ModelSpec("third", "demo", "t", options={"parameters": {"seed": None}})
    scripts = {"first": Script([base.PermissionDenied("no")]), "third": Script(ANSWER)}
    ended = await found.work(scripts, 1)
    assert (ended.status, ended.error["code"]) == ("error", "permission_denied")
    assert ended.model == "first"
