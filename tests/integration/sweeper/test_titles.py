"""Titles: a conversation is named after its first answer, whatever fails."""

import asyncio
from typing import Any

import pytest

from tests.integration.sweeper.rig import DONE, Rig
from tests.integration.worker_rig import Script, events_of, runner_over
from tokenwire.protocol import events
from tokenwire.providers import base
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.spec import ModelSpec
from tokenwire.worker import titles
from tokenwire.worker.services import Models
from tokenwire.worker.titles import name_conversation


async def test_a_conversation_is_named_after_its_first_answer(rig: Rig) -> None:
    """The title model names it and readers get the title; a title that a person gave stays."""
    script = Script([[base.TextDelta("Because of scattering."), *DONE]])
    await runner_over(rig.services, script).generate(rig.row.id)
    assert rig.jobs.titles == [rig.row.id]
    catalogue = Catalogue("m", "m", {"m": ModelSpec(name="m", provider="scripted", model="m")}, {})
    models = Models(catalogue, lambda _spec: Script([[base.TextDelta('"Greeting."'), *DONE]]))
    await name_conversation(rig.services, models, rig.row.id)
    await name_conversation(rig.services, models, rig.row.id)
    titles = [
        event for event in await events_of(rig.log, rig.row) if isinstance(event, events.Title)
    ]
    assert [title.title for title in titles] == ["Greeting"]
    conversation = await rig.store.conversation_of(rig.row.id)
    assert conversation is not None
    assert conversation.announced_rev == conversation.rev  # the sweeper has nothing to announce


async def test_a_title_while_redis_is_away(rig: Rig) -> None:
    """It is stored, the job succeeds, and the sweeper announces it."""
    await runner_over(rig.services, Script([[base.TextDelta("Hello."), *DONE]])).generate(
        rig.row.id
    )
    rig.log.go_down()
    models = Models(Catalogue("demo", "demo", {}, {}), lambda _spec: Script([]))
    await name_conversation(rig.services, models, rig.row.id)
    rig.log.come_back()
    conversation = await rig.store.conversation_of(rig.row.id)
    assert conversation is not None
    assert (conversation.title, conversation.announced_rev < conversation.rev) == ("hi", True)


@pytest.mark.parametrize(
    "step", [base.AuthenticationFailed("no"), asyncio.Event().wait], ids=["fails", "hangs"]
)
async def test_without_a_model_the_first_words_are_the_title(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, step: Any
) -> None:
    """If it fails or returns nothing."""
    monkeypatch.setattr(titles, "TITLE_TIMEOUT_SECONDS", 0.05)
    catalogue = Catalogue("m", "m", {"m": ModelSpec(name="m", provider="scripted", model="m")}, {})
    models = Models(catalogue, lambda _spec: Script([step]))
    await name_conversation(rig.services, models, rig.row.id)
    conversation = await rig.store.conversation_of(rig.row.id)
    assert conversation is not None
    assert conversation.title == "hi"
