"""OpenAI's own clients, unchanged, against a whole Tokenwire; also responses whose log is trimmed
or lost, or whose worker died.

The newest packages are fetched once: those for Python into `var/`, those for Node beside
`tests/js/openai`.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from openai import APITimeoutError, AsyncOpenAI, LengthFinishReasonError, NotFoundError
from pydantic import BaseModel

from tests.e2e.clients.packages import packages
from tests.e2e.reader import acall
from tests.e2e.stack import Stack, running_stack
from tests.js.packages import HERE, need_node, need_packages
from tests.servers.service import free_port

SCRIPT = Path(__file__).parent / "openai_script.py"
CLIENTS = Path(__file__).parent / "clients"
PROVIDER_PORT = free_port()
CATALOGUE = {
    "default": "demo",
    "models": {
        "demo": {"provider": "demo", "options": {"tokens_per_second": 250}},
        "house": {
            "provider": "openai_compatible",
            "base_url": f"http://127.0.0.1:{PROVIDER_PORT}/v1",
            "api_key": "k",
            "model": "own-name",
        },
    },
}

Event = dict[str, Any]
MakeClient = Callable[[Stack], contextlib.AbstractAsyncContextManager[AsyncOpenAI]]


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("catalogue") / "models.yml"
    file.write_text(yaml.safe_dump(CATALOGUE))
    return str(file)


@pytest.fixture(scope="module")
def stack(catalogue: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("stack"), MODELS_FILE=catalogue) as running:
        yield running


class Provider(ThreadingHTTPServer):
    """A server with OpenAI's chat API that always answers `{"a": 1}`; `bodies` holds the
    requests.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", PROVIDER_PORT), Answering)
        self.bodies: list[Event] = []


class Answering(BaseHTTPRequestHandler):
    """One request."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.bodies.append(json.loads(body))  # type: ignore[attr-defined]
        deltas = [({"content": '{"a"'}, None), ({"content": ": 1}"}, None), ({}, "length")]
        chunks = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
            for delta, reason in deltas
        ]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(
            "".join(f"data: {line}\n\n" for line in [*map(json.dumps, chunks), "[DONE]"]).encode()
        )

    # The name that the base gives it.
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@contextlib.asynccontextmanager
async def client_of(stack: Stack) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=60
    ) as client:
        yield client


def script(stack: Stack, path: str) -> str:
    """The output of the script with `path` before all other packages."""
    asked = [sys.executable, str(SCRIPT), f"{stack.url}/v1"]
    run = subprocess.run(
        asked,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_the_newest_python_client(stack: Stack) -> None:
    """Whole answers, streams, cuts, cancels, errors, chats."""
    newest = (CLIENTS / "openai.in").read_text().strip().removeprefix("openai==")
    assert script(stack, str(packages("openai"))) == newest


@pytest.mark.long
def test_an_older_python_client(stack: Stack) -> None:
    """The same with the previous major version."""
    assert script(stack, "").startswith("2.")


def test_the_newest_client_for_node(stack: Stack) -> None:
    """The same in Node."""
    folder = HERE / "openai"
    need_packages(folder)
    run = subprocess.run(
        [need_node(), "--test", str(folder / "openai.test.mjs")],
        env=os.environ | {"TOKENWIRE_URL": stack.url},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "\n# pass 0\n" not in run.stdout


async def test_requests_reach_the_provider(stack: Stack, provider: Provider) -> None:
    """History, system messages and options; finish reason and text come back. Both dialects give
    the same request.
    """
    messages: Any = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One 👋"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three"},
    ]
    async with client_of(stack) as client, asyncio.timeout(60):
        chat = await client.chat.completions.create(
            model="house", messages=messages, temperature=0.5, max_tokens=7
        )
        response = await client.responses.create(
            model="house",
            instructions="Be kind.",
            input=messages[1:],
            temperature=0.5,
            max_output_tokens=7,
        )
    assert (chat.choices[0].finish_reason, chat.choices[0].message.content) == (
        "length",
        '{"a": 1}',
    )
    assert (response.status, response.incomplete_details.reason, response.output_text) == (
        "incomplete",
        "max_output_tokens",
        '{"a": 1}',
    )
    first, second = provider.bodies
    assert first == second
    assert (first["model"], first["messages"], first["temperature"], first["max_tokens"]) == (
        "own-name",
        messages,
        0.5,
        7,
    )


async def test_a_structured_answer(stack: Stack, provider: Provider) -> None:
    """A pydantic model: its schema reaches the provider, and the client parses the answer."""

    class Form(BaseModel):
        a: int

    async with client_of(stack) as client, asyncio.timeout(60):
        with contextlib.suppress(LengthFinishReasonError):  # the stand-in always runs out of tokens
            await client.chat.completions.parse(
                model="house", messages=[{"role": "user", "content": "go"}], response_format=Form
            )
        response = await client.responses.parse(model="house", input="go", text_format=Form)
    assert response.output_parsed == Form(a=1)
    schemas = [
        body["response_format"]["json_schema"]["schema"]["required"] for body in provider.bodies
    ]
    assert schemas == [["a"], ["a"]]


async def collect(stream: Any) -> list[Event]:
    return [event.to_dict() async for event in stream]


async def resumed(client: AsyncOpenAI, response_id: str, events: list[Event], most: int) -> None:
    """Read on after the last event, at most that many; a broken connection counts as a cut."""
    with contextlib.suppress(Exception):
        stream = await client.responses.retrieve(
            response_id, stream=True, starting_after=events[-1]["sequence_number"] if events else -1
        )
        try:
            async for event in stream:
                events.append(event.to_dict())
                if len(events) % most == 0:
                    return
        finally:
            await stream.close()


async def agree(stack: Stack, content: str, disturb: Callable[[], None]) -> None:
    """Read a response with cuts while something happens: these events, a fresh replay and the row
    agree.
    """
    async with client_of(stack) as client, asyncio.timeout(80):
        response = await client.responses.create(model="demo", input=content, background=True)
        events: list[Event] = []
        for turn in range(1000):
            await resumed(client, response.id, events, most=100)
            if events and events[-1]["type"] == "response.completed":
                break
            if turn == 1:
                disturb()
            await asyncio.sleep(0.05)
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        assert events == await collect(await client.responses.retrieve(response.id, stream=True))
        text = "".join(
            event["delta"] for event in events if event["type"] == "response.output_text.delta"
        )
        assert text == (await client.responses.retrieve(response.id)).output_text
        assert len(text) > 2000


def kill(stack: Stack, kind: str) -> None:
    for pid in stack.pids(kind):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "kind", ["worker", *(pytest.param(each, marks=pytest.mark.long) for each in ("web", "redis"))]
)
async def test_a_process_killed_while_streaming(stack: Stack, kind: str) -> None:
    """The numbers continue: they come from the text."""
    await agree(stack, "Tell me", lambda: kill(stack, kind))


@pytest.mark.long
async def test_a_trimmed_log(catalogue: str, tmp_path: Path) -> None:
    """What the log no longer holds comes from the row, with the same numbers."""
    with running_stack(tmp_path, MODELS_FILE=catalogue, LOG_MAX_EVENTS="100") as stack:
        await agree(stack, "Tell me", lambda: None)
        with redis.Redis.from_url(stack.redis_url) as log:
            assert [log.xlen(key) < 250 for key in log.scan_iter("tw2:*:log")] == [True]


async def test_a_break_of_the_provider(stack: Stack) -> None:
    """Its connection breaks twice; the answer continues where it ended."""
    await agree(stack, "Tell me !cut", lambda: None)


async def test_leaving_stops_an_answer_only_on_request(stack: Stack) -> None:
    """By a header. A response that is not stored ends with its request."""
    async with client_of(stack) as client, asyncio.timeout(60):
        names = {}
        for how, more in {
            "continue": {},
            "cancel": {"extra_headers": {"X-Tokenwire-On-Disconnect": "cancel"}},
            "forget": {"store": False},
        }.items():
            stream = await client.responses.create(
                model="demo", input="Tell me", stream=True, **more
            )  # type: ignore[call-overload]
            async for event in stream:
                if event.type == "response.output_text.delta":
                    break
                if event.type == "response.created":
                    names[how] = event.response.id
            await stream.close()
        ended = {how: await status_of(client, name) for how, name in names.items()}
    assert ended == {"continue": "completed", "cancel": "cancelled", "forget": "gone"}


async def test_a_client_that_leaves_without_a_stream(stack: Stack) -> None:
    """The answer stops if its client asked for that; a repeated request with its key shows how it
    ended.
    """
    async with client_of(stack) as client, asyncio.timeout(60):
        asking = {
            "model": "demo",
            "input": "!slow Tell me",
            "extra_headers": {"X-Tokenwire-On-Disconnect": "cancel", "Idempotency-Key": "k"},
        }
        with pytest.raises(APITimeoutError):
            await client.responses.create(**asking, timeout=1)
        response = await client.responses.create(**asking)
    assert (response.status, bool(response.output_text)) == ("cancelled", True)


async def test_a_response_deleted_while_it_is_read(stack: Stack) -> None:
    """An error with the next number ends the stream."""
    async with client_of(stack) as client, asyncio.timeout(60):
        events: list[Event] = []
        async for event in await client.responses.create(
            model="demo", input="!slow Tell me", stream=True
        ):
            events.append(event.to_dict())
            if len(events) == 8:
                await client.responses.delete(events[0]["response"]["id"])
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "deleted")
    assert events[-1]["sequence_number"] == events[-2]["sequence_number"]


async def status_of(client: AsyncOpenAI, response_id: str) -> str:
    """Its final status."""
    while True:
        try:
            response = await client.responses.retrieve(response_id)
        except NotFoundError:
            return "gone"
        if response.status not in ("queued", "in_progress"):
            return str(response.status)
        await asyncio.sleep(0.1)


async def test_answers_of_conversations_are_responses_too(stack: Stack) -> None:
    """Any visible answer can be read; responses created here are in no list."""
    _, conversation = await acall(stack.url, "POST", "/api/conversations", {"title": "mine"})
    _, posted = await acall(
        stack.url,
        "POST",
        f"/api/conversations/{conversation['id']}/messages",
        {"content": "!short hi"},
    )
    name = f"resp_{posted['assistant_message']['id']}"
    async with client_of(stack) as client:
        events = await collect(await client.responses.retrieve(name, stream=True))
        assert events[-1]["response"]["output"][0]["content"][0]["text"].startswith("Hello!")
        await client.responses.create(model="demo", input="!short unlisted")
    _, listed = await acall(stack.url, "GET", "/api/conversations")
    assert [row["title"] for row in listed["conversations"]] == ["mine"]
