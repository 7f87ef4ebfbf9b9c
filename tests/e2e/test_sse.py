"""Event streams on a real Tokenwire, read by `curl -N` and a bare EventSource in Chromium, and
across a restart of the web process.
"""

import asyncio
import json
import os
import shutil
import signal
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
import redis
from playwright.async_api import Browser

from tests.e2e.browser import open_page, running_browser
from tests.e2e.stack import Stack, running_stack
from tests.eventsource import EventSource, Parser
from tests.servers.faultproxy import fault_proxy
from tokenwire.streams.log import keys

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATIENCE_SECONDS = 60
_MODELS = "default: demo\nmodels: {demo: {provider: demo, options: {tokens_per_second: 150}}}\n"
CURL = shutil.which("curl")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a fast demo model."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "models.yml").write_text(_MODELS)
    with running_stack(folder, MODELS_FILE=str(folder / "models.yml")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


class Answer:
    """A text built from checked events: seqs without a hole, offsets without a gap, length and
    checksum at the end.
    """

    def __init__(self, cursor: str) -> None:
        self.epoch, _, seq = cursor.partition(":")
        self.seq, self.text = int(seq), ""
        self.end: dict[str, Any] | None = None

    def take(self, event: dict[str, Any], last_event_id: str) -> None:
        assert last_event_id == f"{self.epoch}:{event['seq']}"
        assert event.get("from_seq", event["seq"]) == self.seq + 1
        self.seq = event["seq"]
        if event["type"] == "chunk":
            assert event["offset"] == len(self.text.encode("utf-16-le")) // 2
            self.text += event["content"]
        if event["type"] == "complete":
            assert event["crc32"] == zlib.crc32(self.text.encode())
            self.end = event


async def posted(client: httpx.AsyncClient, content: str = "Tell me.") -> dict[str, Any]:
    """A new conversation with one post; the answer of the post."""
    conversation = (await client.post("/api/conversations")).json()["id"]
    answer: dict[str, Any] = (
        await client.post(f"/api/conversations/{conversation}/messages", json={"content": content})
    ).json()
    return answer


async def stored(client: httpx.AsyncClient, post: dict[str, Any]) -> str:
    """The stored text of the answer."""
    row = (
        await client.get(f"/api/conversations/{post['assistant_message']['conversation_id']}")
    ).json()["messages"][-1]
    assert row["status"] == "complete"
    return str(row["content"])


def events_of(post: dict[str, Any]) -> str:
    return (
        f"/api/conversations/{post['assistant_message']['conversation_id']}/"
        f"events?after={post['cursor']}"
    )


async def test_curl_reads_it(stack: Stack) -> None:
    """`curl -N` shows the events while they happen, and all of them."""
    if CURL is None:
        pytest.skip("no curl on this machine")
    async with httpx.AsyncClient(base_url=stack.url) as client, asyncio.timeout(PATIENCE_SECONDS):
        post = await posted(client)
        curl = await asyncio.create_subprocess_exec(
            CURL, "-sN", stack.url + events_of(post), stdout=asyncio.subprocess.PIPE
        )
        assert curl.stdout is not None
        parser, answer = Parser(), Answer(post["cursor"])
        reads = 0
        while answer.end is None:
            reads += 1
            for event in parser.push(await curl.stdout.read(65536)):
                answer.take(event.json, event.last_event_id)
        curl.terminate()
        await curl.wait()
        assert answer.text == await stored(client, post)
        assert reads > 10


async def test_a_reader_after_the_end_reads_the_packed_log(stack: Stack) -> None:
    """The worker packs it by itself; the events are the same as before."""
    async with httpx.AsyncClient(base_url=stack.url) as client, asyncio.timeout(PATIENCE_SECONDS):
        post = await posted(client)
        conversation = post["assistant_message"]["conversation_id"]
        stream, *_, packed = keys.keys(conversation)
        with redis.Redis.from_url(stack.redis_url) as log:
            # Block by block; a title may come later.
            while not log.exists(packed) or log.xlen(stream) > 1:
                await asyncio.sleep(0.1)
        answer, source = Answer(post["cursor"]), EventSource(client, events_of(post))
        async for event in source:
            answer.take(event.json, event.last_event_id)
            if answer.end is not None:
                break
        assert answer.text == await stored(client, post)


_FOLLOW = """(address) => new Promise((resolve, reject) => {
    const events = [], source = new EventSource(address);
    let opened = 0;
    source.onopen = () => { opened += 1; };
    source.onerror = () => { if (source.readyState === EventSource.CLOSED)
        reject(new Error("closed for good")); };
    source.onmessage = (message) => {
        const event = JSON.parse(message.data);
        events.push([event, message.lastEventId]);
        window.heard = events.length;
        if (event.type === "complete") { source.close(); resolve({events, opened}); }
    };
})"""


async def test_a_bare_eventsource_in_chromium_survives_three_cuts(
    stack: Stack, browser: Browser
) -> None:
    """It reconnects by itself, and has every event once and in order, up to the stored text."""
    async with (
        fault_proxy("127.0.0.1", stack.port) as proxy,
        httpx.AsyncClient(base_url=stack.url) as client,
        open_page(browser, f"http://127.0.0.1:{proxy.port}") as page,
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        post = await posted(client)
        following = asyncio.create_task(page.evaluate(_FOLLOW, events_of(post)))
        for heard in (15, 30, 45):
            await page.wait_for_function("(heard) => window.heard > heard", arg=heard)
            proxy.cut()
        result = await following
        answer = Answer(post["cursor"])
        for event, last_event_id in result["events"]:
            answer.take(event, last_event_id)
        assert answer.text == await stored(client, post)
        assert result["opened"] >= 3


async def test_a_restart_of_the_web_process_loses_nothing(stack: Stack) -> None:
    """It ends its streams and exits at once; a bare EventSource reconnects to the next process."""
    async with httpx.AsyncClient(base_url=stack.url) as client, asyncio.timeout(PATIENCE_SECONDS):
        post = await posted(client)
        answer, source = Answer(post["cursor"]), EventSource(client, events_of(post))
        (old,) = stack.pids("web")
        async for event in source:
            answer.take(event.json, event.last_event_id)
            if len(answer.text) > 200 and source.connections == 1 and stack.pids("web") == [old]:
                os.kill(old, signal.SIGTERM)
            if answer.end is not None:
                break
        assert source.connections > 1
        assert answer.text == await stored(client, post)


async def test_a_sidebar_is_live(stack: Stack, browser: Browser) -> None:
    """One EventSource shows a conversation from its creation to its deletion."""
    follow = """() => {
        window.told = [];
        new EventSource("/api/feed").onmessage =
            (message) => window.told.push(JSON.parse(message.data));
    }"""
    async with (
        httpx.AsyncClient(base_url=stack.url) as client,
        open_page(browser, stack.url) as page,
    ):
        await page.evaluate(follow)
        await page.wait_for_function("() => window.told.length === 1")
        post = await posted(client)
        conversation = post["assistant_message"]["conversation_id"]
        await page.wait_for_function("() => window.told.some((event) => event.type === 'ended')")
        await client.delete(f"/api/conversations/{conversation}")
        await page.wait_for_function("() => window.told.some((event) => event.type === 'deleted')")
        told = json.loads(await page.evaluate("() => JSON.stringify(window.told)"))
    mine = [
        event
        for event in told
        if conversation in (event.get("conversation_id"), event.get("conversation", {}).get("id"))
    ]
    kinds = [event["type"] for event in mine if event["type"] != "titled"]
    assert kinds in (["created", "running", "ended", "deleted"], ["created", "ended", "deleted"])
    assert next(event for event in mine if event["type"] == "ended")["status"] == "complete"
