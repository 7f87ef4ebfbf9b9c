"""What a misbehaving provider may cost: a scripted one counts its requests, on every rung."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from tests.integration.providers.wire import Exchange, serving
from tests.integration.worker_rig import NoJobs, events_of, kinds, services_over, text_of
from tokenwire.config.terms import AnswerTerms
from tokenwire.models.conversations import Post
from tokenwire.models.store import Store
from tokenwire.models.tables import Message as Row
from tokenwire.providers.catalogue import Catalogue
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider
from tokenwire.providers.spec import ModelSpec
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.runner import Runner
from tokenwire.worker.services import Models

END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
STORY = " ".join(f"{number} little birds sat on wire {number * 7 % 31}." for number in range(60))


def chunk(content: str) -> bytes:
    return (
        b"data: %b\n\n"
        % json.dumps({"id": "c", "choices": [{"index": 0, "delta": {"content": content}}]}).encode()
    )


class Rig:
    """One answer; every retry is due at once."""

    def __init__(self, store: Store, row: Row, client: HttpClient) -> None:
        self.store, self.row, self.client = store, row, client
        self.log = MemoryLog()
        self.services = services_over(store, self.log, NoJobs())

    async def run(self, url: str, terms: AnswerTerms | None = None, **entry: Any) -> Row:
        """Run attempts until the answer has ended."""
        spec = ModelSpec(name="m", provider="openai_compatible", model="m", base_url=url, **entry)
        catalogue = Catalogue(default="m", title_model="m", models={"m": spec}, missing={})
        services = replace(self.services, terms=terms or AnswerTerms())
        models = Models(catalogue, lambda spec: open_provider(spec, self.client))
        for _ in range(100):
            await Runner(services, models).generate(self.row.id)
            row = await self.store.message(self.row.id)
            assert row is not None
            if row.status != "retrying":
                return row
            async with self.store.writing() as session:
                await session.execute(text("UPDATE messages SET due_at = 0"))
        raise AssertionError("it goes on for ever")


@pytest.fixture
async def rig(sqlite_store: Store) -> AsyncIterator[Rig]:
    client = HttpClient()
    conversation = await sqlite_store.create_conversation("me", title="t")
    posted = await sqlite_store.post(Post(conversation.id, "me", "hi " * 200, "m"))
    yield Rig(sqlite_store, posted.assistant_message, client)
    await client.aclose()


class Words:
    """Writes that many new characters and closes; `usage` is its bill."""

    def __init__(self, chars: int, usage: int | None = None) -> None:
        self.chars, self.usage, self.said = chars, usage, 0

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.head()
        text = (STORY * 3)[self.said : self.said + self.chars]
        self.said += self.chars
        await exchange.send(chunk(text))
        if self.usage is not None:
            await exchange.send(
                b'data: {"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":3}}\n\n'
                % self.usage
            )
        await exchange.end()


async def test_a_few_words_are_no_progress(rig: Rig) -> None:
    """Six words and a closed connection, again and again: three requests, and the arrived text is
    kept.
    """
    async with serving(Words(30)) as server:
        row = await rig.run(server.url, continuation="prefix")
    assert (len(server.calls), row.status, row.error and row.error["code"]) == (
        3,
        "error",
        "interrupted",
    )
    assert row.content == STORY[:90]


async def test_an_answer_beyond_a_limit_is_asked_for_once(rig: Rig) -> None:
    """Another request would be billed again, and bring the same."""

    async def deep(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk("Hi. "))
        await exchange.send(b'data: {"choices":' + b"[" * 3000 + b"]" * 3000 + b"}\n\n")

    async with serving(deep) as server:
        row = await rig.run(server.url, continuation="prefix")
    assert (len(server.calls), row.status, row.content) == (1, "error", "Hi. ")
    assert row.error is not None
    assert (row.error["code"], row.error["retryable"]) == ("answer_too_large", False)


async def test_requests_of_an_answer_are_bounded(rig: Rig) -> None:
    """Whatever progress each of them makes; the code says so."""
    async with serving(Words(200)) as server:
        row = await rig.run(
            server.url, AnswerTerms(max_requests_per_answer=5), continuation="prefix"
        )
    assert (len(server.calls), row.status, row.error and row.error["code"]) == (
        5,
        "error",
        "budget_exhausted",
    )
    assert len(row.content) == 1000
    assert text_of(await events_of(rig.log, rig.row)) == row.content


@pytest.mark.parametrize(("usage", "calls"), [(1000, 3), (None, 7)])
async def test_input_tokens_of_an_answer_are_bounded(
    rig: Rig, usage: int | None, calls: int
) -> None:
    """By the provider's bill, else by an estimate of what was sent, continued text included."""
    async with serving(Words(200, usage)) as server:
        row = await rig.run(
            server.url, AnswerTerms(max_billed_input_tokens_per_answer=2_500), continuation="prefix"
        )
    assert row.error is not None
    assert (len(server.calls), row.error["code"]) == (calls, "budget_exhausted")


async def test_refused_requests_are_not_billed(rig: Rig) -> None:
    """Two 503 do not use up the answer's budget."""
    refusals = 2

    async def script(exchange: Exchange) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            await exchange.whole(b"{}", 503, "application/json")
            return
        await exchange.whole(chunk("Hello.") + END)

    async with serving(script) as server:
        row = await rig.run(
            server.url, AnswerTerms(max_billed_input_tokens_per_answer=200), continuation="prefix"
        )
    assert (row.status, row.content, len(server.calls)) == ("complete", "Hello.", 3)


async def test_the_request_of_a_dead_worker_is_counted(rig: Rig) -> None:
    """It reports no usage; a successor above the budget makes no request."""
    claim = await rig.log.claim(rig.row.conversation_id, rig.row.id, 0, 0.0)
    assert await rig.store.begin_attempt(rig.row.id, claim.attempt, "m")
    async with serving(Words(200)) as server:
        row = await rig.run(
            server.url, AnswerTerms(max_billed_input_tokens_per_answer=200), continuation="prefix"
        )
    assert (len(server.calls), row.error and row.error["code"]) == (0, "budget_exhausted")


@pytest.mark.parametrize("held", [30, 500, 2500])
@pytest.mark.parametrize("rung", ["prefix", "turn", "restart"])
async def test_a_provider_that_always_starts_over(rig: Rig, rung: str, held: int) -> None:
    """It always writes the whole answer: readers see it once."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        first = len(server.calls) == 1
        for start in range(0, held if first else len(STORY), 9):
            await exchange.send(chunk(STORY[start : min(start + 9, held) if first else start + 9]))
        if not first:
            await exchange.send(END)
        await exchange.end()

    async with serving(script) as server:
        row = await rig.run(server.url, continuation=rung)
    assert (row.status, row.content, len(server.calls)) == ("complete", STORY, 2)
    log = await events_of(rig.log, rig.row)
    assert ("Reset" in kinds(log)) is (rung == "restart")
