"""A paused turn of Anthropic's API is sent back as it came and continues in the same answer,
whatever comes between.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.providers.wire import Exchange, Server, serving
from tests.integration.worker_rig import NoJobs, events_of, kinds, services_over, text_of
from tests.paused import FIRST_TURN, FIRST_TYPES, RESULT, SEARCH, THOUGHT, frames, words
from tokenwire.config.terms import AnswerTerms
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.protocol import events
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider
from tokenwire.providers.spec import ModelSpec, Rung
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models


def turn(blocks: Sequence[dict[str, Any]], reason: str) -> bytes:
    return b"".join(frames(blocks, reason))


PAUSED = turn(FIRST_TURN, "pause_turn")
WHOLE = turn([RESULT, words("It rains.")], "end_turn")

CUT = turn([RESULT, words("It ra")], "end_turn").rpartition(b"data:")[0].rpartition(b"data:")[0]


class Rig:
    """One answer of a model that speaks Anthropic's dialect."""

    def __init__(self, store: Store, row: Row, client: HttpClient) -> None:
        self.store, self.row, self.client, self.log, self.jobs = (
            store,
            row,
            client,
            MemoryLog(),
            NoJobs(),
        )
        self.services = services_over(store, self.log, self.jobs)

    rung: Rung = "turn"

    def runner(self, server: Server, **terms: Any) -> Runner:
        spec = ModelSpec(
            name="m",
            provider="anthropic",
            model="x",
            base_url=server.url,
            api_key="k",
            continuation=self.rung,
        )
        catalogue = Catalogue(default="m", title_model="m", models={"m": spec}, missing={})
        return Runner(
            replace(self.services, terms=AnswerTerms(**terms)),
            Models(catalogue, lambda spec: open_provider(spec, self.client)),
        )

    async def run(self, server: Server, **terms: Any) -> Row:
        """One attempt, due at once."""
        async with self.store.writing() as session:
            await session.execute(text("UPDATE messages SET due_at = 0 WHERE due_at IS NOT NULL"))
        await self.runner(server, **terms).generate(self.row.id)
        row = await self.store.message(self.row.id)
        assert row is not None
        return row


@pytest.fixture
async def rig(sqlite_store: Store) -> AsyncIterator[Rig]:
    client = HttpClient()
    conversation = await sqlite_store.create_conversation("me", title="t")
    yield Rig(
        sqlite_store,
        (await sqlite_store.post(Post(conversation.id, "me", "And Oslo?", "m"))).assistant_message,
        client,
    )
    await client.aclose()


def playing(*answers: bytes | int) -> Any:
    """A script that plays them one after another; a number is a refusal with this status."""
    left = list(answers)

    async def script(exchange: Exchange) -> None:
        answer = left.pop(0)
        if isinstance(answer, int):
            await exchange.whole(b"{}", answer, "application/json")
        else:
            await exchange.whole(answer)

    return script


def sent(server: Server, number: int) -> list[dict[str, Any]]:
    """The messages of a request."""
    messages: list[dict[str, Any]] = json.loads(server.calls[number].body)["messages"]
    return messages


async def test_a_paused_turn_continues_in_the_same_message(rig: Rig) -> None:
    """Sent back with its blocks unchanged at the end of the request; readers notice nothing; both
    requests are billed.
    """
    async with serving(playing(PAUSED, WHOLE)) as server:
        row = await rig.run(server)
    assert len(server.calls) == 2
    assert (row.status, row.finish_reason, row.content, row.seams) == (
        "complete",
        "stop",
        "I will look. It rains.",
        [],
    )
    asked, resumed = sent(server, 0), sent(server, 1)
    assert resumed == [
        *asked,
        {"role": "assistant", "content": [THOUGHT, words("I will look. "), SEARCH]},
    ]
    log = await events_of(rig.log, rig.row)
    assert set(kinds(log)) == {"Start", "Reasoning", "PartEvent", "Chunk", "Complete"}
    assert text_of(log) == row.content
    assert row.usage == {"input_tokens": 20, "output_tokens": 10, "estimated": False}
    assert row.attempt == 1


async def test_a_turn_that_pauses_repeatedly(rig: Rig) -> None:
    """Each time the whole turn is sent back once; after the limit, the answer ends as
    incomplete.
    """
    more = turn([RESULT, words("One more. "), {**SEARCH, "id": "srv_2"}], "pause_turn")
    async with serving(playing(PAUSED, more, PAUSED)) as server:
        row = await rig.run(server, max_requests_per_answer=3)
    assert (row.status, row.finish_reason, len(server.calls)) == ("complete", "paused", 3)
    last = sent(server, 2)
    assert [message["role"] for message in last] == ["user", "assistant"]
    assert [block["type"] for block in last[1]["content"]] == [
        "thinking",
        "text",
        "server_tool_use",
        RESULT["type"],
        "text",
        "server_tool_use",
    ]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_refused_resumption_is_retried(rig: Rig, status: int) -> None:
    """Another attempt sends the same turn: the provider's tools do not run again."""
    async with serving(playing(PAUSED, status, WHOLE)) as server:
        row = await rig.run(server)
        assert (row.status, row.content) == ("retrying", "I will look. ")
        row = await rig.run(server)
    assert (row.status, row.content, row.seams) == ("complete", "I will look. It rains.", [])
    assert sent(server, 2) == sent(server, 1)
    assert row.usage == {"input_tokens": 20, "output_tokens": 10, "estimated": False}


async def test_a_deploy_between_pause_and_resumption(rig: Rig) -> None:
    """Handed over during the next request: the successor resumes the turn, and a second pause does
    not send it twice.
    """
    asked_again = asyncio.Event()
    first = playing(PAUSED)

    async def slow(exchange: Exchange) -> None:
        if len(server.calls) == 1:
            await first(exchange)
        else:
            asked_again.set()
            await asyncio.Event().wait()

    async with serving(slow) as server:
        runner = rig.runner(server)
        running = asyncio.create_task(runner.generate(rig.row.id))
        await asked_again.wait()
        await runner.drain(0)
        await running
    again = turn([RESULT, words("One more. "), {**SEARCH, "id": "srv_2"}], "pause_turn")
    async with serving(playing(again, WHOLE)) as server:
        row = await rig.run(server)
    assert (row.status, row.content, row.attempt) == (
        "complete",
        "I will look. One more. It rains.",
        2,
    )
    assert [len(sent(server, number)) for number in (0, 1)] == [2, 2]
    assert sent(server, 0)[1]["content"] == [THOUGHT, words("I will look. "), SEARCH]


async def test_a_turn_above_the_limit_of_kept_values(rig: Rig) -> None:
    """Part of it would be refused, so the answer ends as paused."""
    async with serving(playing(PAUSED)) as server:
        row = await rig.run(server, max_kept_bytes=10)
    assert (row.status, row.finish_reason, row.parts_kept, len(server.calls)) == (
        "complete",
        "paused",
        None,
        1,
    )


async def test_a_resumed_answer_that_is_cut_continues_by_its_rung(rig: Rig) -> None:
    """The model is shown the words of both turns: values of the first would lack the second's."""
    rest = turn([words("ins.")], "end_turn")
    async with serving(playing(PAUSED, CUT, rest)) as server:
        row = await rig.run(server)
        assert row.status == "retrying"
        row = await rig.run(server)
    assert (row.status, row.content, row.seams) == (
        "complete",
        "I will look. It rains.",
        [len("I will look. It ra")],
    )
    _, shown, asked = sent(server, 2)
    assert (shown["role"], asked["role"]) == ("assistant", "user")
    assert shown["content"] == [words("I will look. "), words("It ra")]
    assert isinstance((await events_of(rig.log, rig.row))[-1], events.Complete)


async def test_a_break_behind_the_pause_restarts_only_the_second_turn(rig: Rig) -> None:
    """Readers keep the paused turn and its step, and the provider gets the same request again."""
    rig.rung = "restart"
    async with serving(playing(PAUSED, CUT, WHOLE)) as server:
        row = await rig.run(server)
        assert (row.status, row.proven_parts) == ("retrying", len(FIRST_TYPES))
        row = await rig.run(server)
    assert (row.status, row.content) == ("complete", "I will look. It rains.")
    assert sent(server, 2) == sent(server, 1)
    assert [part["type"] for part in row.parts or ()][:4] == [*FIRST_TYPES, "step"]
    assert await resets(rig) == [events.Reset(rig.row.id, 2, len("I will look. "), 3, 4)]


async def test_what_a_proven_turn_added_is_no_progress_twice(rig: Rig) -> None:
    """The next attempt begins with the text that stays."""
    rig.rung = "restart"
    async with serving(playing(PAUSED, CUT, CUT)) as server:
        await rig.run(server)
        row = await rig.run(server)
    assert row.started_with == len("Hm.I will look. ")


async def resets(rig: Rig) -> list[events.Reset]:
    log = await events_of(rig.log, rig.row)
    return [event for event in log if isinstance(event, events.Reset)]
