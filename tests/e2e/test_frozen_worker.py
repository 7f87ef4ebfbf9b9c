"""A cancel does not wait for a frozen worker: a real process, stopped in the middle of an
answer.
"""

import contextlib
import os
import signal
import sqlite3
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.e2e.stack import Stack, running_stack

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
END_SECONDS = 1.0
"""The goal from the cancel to a reader's terminal event. A busy machine gets three times that,
still far below a lease.
"""


def posted(client: httpx.Client) -> tuple[str, str]:
    """A running answer with text: the ids of its conversation and of itself."""
    conversation = client.post("/api/conversations").json()["id"]
    answer = client.post(
        f"/api/conversations/{conversation}/messages", json={"content": "!slow"}
    ).json()
    return conversation, answer["assistant_message"]["id"]


def row(client: httpx.Client, conversation: str) -> dict[str, object]:
    """The stored answer."""
    found: dict[str, object] = client.get(f"/api/conversations/{conversation}").json()["messages"][
        -1
    ]
    return found


def freeze(stack: Stack) -> None:
    """Stop the worker while it writes no row: SQLite has one writer, and would wait for it."""
    database = sqlite3.connect(stack.folder / "var" / "tokenwire.db", timeout=0)
    with contextlib.closing(database):
        for _ in range(100):
            signal_workers(stack, signal.SIGSTOP)
            with contextlib.suppress(sqlite3.OperationalError):
                database.execute("BEGIN IMMEDIATE")
                database.rollback()
                return
            signal_workers(stack, signal.SIGCONT)
            time.sleep(0.01)
    raise AssertionError("the worker always writes")


def signal_workers(stack: Stack, number: signal.Signals) -> None:
    for pid in stack.pids("worker"):
        os.kill(pid, number)


def ended_after(
    client: httpx.Client, conversation: str, message: str, stack: Stack
) -> tuple[float, str]:
    """Follow the answer, freeze its worker after some text, cancel: seconds until the terminal
    event, and the visible text.
    """
    text, asked = "", 0.0
    with client.stream("GET", f"/api/conversations/{conversation}/events", timeout=30) as events:
        for line in events.iter_lines():
            if '"type":"chunk"' in line and not asked:
                text += httpx.Response(200, content=line.removeprefix("data:").encode()).json()[
                    "content"
                ]
                if len(text) > 20:
                    freeze(stack)
                    asked = time.monotonic()
                    assert client.post(f"/api/messages/{message}/cancel").status_code == 202
            elif '"type":"cancelled"' in line:
                return time.monotonic() - asked, text
    raise AssertionError("the stream ended without an end of the answer")


@pytest.mark.long
def test_a_cancel_with_a_frozen_worker(tmp_path: Path) -> None:
    """The reader sees the end within a second; the worker changes neither row nor log when it wakes
    up.
    """
    with (
        running_stack(tmp_path, LEASE_SECONDS="30") as stack,
        httpx.Client(base_url=stack.url) as client,
    ):
        conversation, message = posted(client)
        try:
            seconds, text = ended_after(client, conversation, message, stack)
            ended = row(client, conversation)
        finally:
            signal_workers(stack, signal.SIGCONT)
        assert seconds < 3 * END_SECONDS
        assert (ended["status"], str(ended["content"]).startswith(text)) == ("cancelled", True)
        again = client.post(
            f"/api/conversations/{conversation}/messages", json={"content": "!short"}
        )
        assert again.status_code == 202
        assert stack.eventually(lambda: row(client, conversation)["status"] == "complete", 30), (
            stack.shown
        )
        assert client.get(f"/api/conversations/{conversation}").json()["messages"][1] == ended
