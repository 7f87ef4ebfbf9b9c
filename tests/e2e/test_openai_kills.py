"""A decision over /v1 while SIGKILL ends a worker, the web process, or both: when the decision is
stored, when the tool has begun, and when it has ended. OpenAI's own client asks, and repeats what
fails.

The tool counts its runs past all of Tokenwire.
"""

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.databases import prefixed
from tests.e2e.stack import Stack, running_stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

SERVER: Any = {"type": "mcp", "server_label": "tokenwire"}
LOST = (openai.APIConnectionError, openai.InternalServerError, httpx.TransportError)
UNKNOWN = "Nobody knows whether this call took effect. Do not repeat it."
MODULE = '''
import time
from pathlib import Path

from tokenwire.tools import tool

NOTED = Path(__file__).with_name("noted")


def note(word: str, to: str) -> None:
    with NOTED.open("a") as file:
        file.write(f"{word} {to}\\n")


@tool(approve=True)
def pay(to: str) -> str:
    """Pay somebody."""
    note("began", to)
    time.sleep(0.5)
    note("ended", to)
    return f"Paid {to}."
'''


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "shop.py").write_text(MODULE)
    with running_stack(folder, TOOLS="shop", TOOL_UNKNOWN_SECONDS="1") as running:
        yield running


def noted(stack: Stack, word: str, to: str) -> int:
    """How often the tool wrote this."""
    file = stack.folder / "noted"
    return file.read_text().splitlines().count(f"{word} {to}") if file.exists() else 0


def decisions(stack: Stack) -> int:
    """How many are stored, whatever the processes do."""
    database = sqlite3.connect(stack.folder / "var" / "tokenwire.db", timeout=10)
    with contextlib.closing(database):
        query = prefixed("SELECT count(*) FROM decisions")
        return int(database.execute(query).fetchone()[0])


class Killer(threading.Thread):
    """Ends processes as soon as something is true."""

    def __init__(self, stack: Stack, kinds: list[str], is_time: Callable[[], bool]) -> None:
        super().__init__(daemon=True)
        self.killed = list[int]()
        self._stack, self._kinds, self._is_time = stack, kinds, is_time

    def run(self) -> None:
        # They are known before: while they are searched for, a result would be stored.
        pids = [pid for kind in self._kinds for pid in self._stack.pids(kind)]
        deadline = time.monotonic() + 30
        while not self._is_time():
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed.append(pid)


def whole(client: openai.OpenAI, body: dict[str, Any]) -> Any:
    """The response, as one request gives it that is repeated until it succeeds."""
    return client.responses.create(**body)


def streamed(client: openai.OpenAI, body: dict[str, Any]) -> Any:
    """The response that a stream ends with. It goes on where it broke, as docs/openai.md shows; a
    stream that broke before its first event is asked for again.
    """
    name, last = None, -1
    while True:
        with contextlib.suppress(*LOST):
            asked = (
                client.responses.create(**body, background=True, stream=True)
                if name is None
                else client.responses.retrieve(name, stream=True, starting_after=last)
            )
            for event in asked:
                assert event.sequence_number == last + 1
                last = event.sequence_number
                name = name or event.response.id
                if event.type == "response.completed":
                    return event.response
        time.sleep(0.2)


def payment(client: openai.OpenAI, to: str) -> dict[str, Any]:
    """The body of the request that allows it."""
    question = f'!tool pay {{"to": "{to}"}}'
    asked = client.responses.create(model="demo", input=question, tools=[SERVER])
    (item,) = asked.output
    decision = {"type": "mcp_approval_response", "approval_request_id": item.id, "approve": True}
    follows = {"previous_response_id": asked.id, "tools": [SERVER]}
    return {"model": "demo", "input": [decision], **follows}


@pytest.mark.parametrize(
    ("kinds", "read"),
    [(["worker"], whole), (["web"], whole), (["worker", "web"], streamed)],
    ids=["worker", "web", "both"],
)
@pytest.mark.parametrize("moment", ["decided", "began", "ended"])
def test_a_kill_around_a_decision(
    stack: Stack, moment: str, kinds: list[str], read: Callable[..., Any]
) -> None:
    """The tool runs once, and the response ends. Only a worker's death loses an outcome."""
    to = f"{moment}-{'-'.join(kinds)}-{read.__name__}"
    with openai.OpenAI(
        base_url=f"{stack.url}/v1", api_key="none", max_retries=20, timeout=60
    ) as client:
        body, before = payment(client, to), decisions(stack)

        def is_time() -> bool:
            return (
                decisions(stack) > before if moment == "decided" else noted(stack, moment, to) > 0
            )

        killer = Killer(stack, kinds, is_time)
        killer.start()
        ended = read(client, body)
        killer.join()
        kept = client.responses.retrieve(ended.id)
        assert kept.to_dict() == ended.to_dict()
        again = read(client, body)
    assert len(killer.killed) >= len(kinds)
    call, text = ended.output
    runs = noted(stack, "began", to)
    assert runs == 1 or (moment == "decided" and runs == 0 and "worker" in kinds)
    if call.status == "completed":
        assert (runs, call.output) == (1, f"Paid {to}.")
    else:
        assert "worker" in kinds
        assert (call.status, call.error) == ("failed", UNKNOWN)
    assert text.status == "completed"
    assert (again.id, noted(stack, "began", to)) == (ended.id, runs)
    assert decisions(stack) == before + 1
