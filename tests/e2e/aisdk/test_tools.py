"""Tools with the real packages: approvals, tools of the front end, two tabs, a worker that dies,
posts while a tool runs.
"""

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e.aisdk.conftest import MODELS, run_node
from tests.e2e.stack import Stack, running_stack

pytestmark = pytest.mark.timeout(300)
_TOOLS = '''
import os
import time

from tokenwire.tools import tool


def write(line: str) -> None:
    place = os.open(os.environ["TOOLS_RUNS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(place, (line + "\\n").encode())
    os.close(place)


@tool(approve=True)
def pay(note: str) -> str:
    """Pay."""
    write(f"pay {note}")
    return "paid"


@tool
def add() -> int:
    """Add."""
    write("add")
    return 3


@tool
def nap(until: str) -> str:
    """Rest until there is a file of this name."""
    alarm = os.path.join(os.path.dirname(os.environ["TOOLS_RUNS"]), until)
    for _ in range(600):
        if os.path.exists(alarm):
            return "rested"
        time.sleep(0.05)
    raise TimeoutError
'''


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("tools")
    (folder / "models.yml").write_text(MODELS)
    (folder / "chat_tools.py").write_text(_TOOLS)
    (folder / "runs").touch()
    with running_stack(
        folder,
        MODELS_FILE=str(folder / "models.yml"),
        TOOLS="chat_tools",
        TOOLS_RUNS=str(folder / "runs"),
    ) as running:
        yield running


@pytest.mark.parametrize("every", [pytest.param("1", marks=pytest.mark.long, id="every"), ""])
def test_tools_in_chats(node: str, stack: Stack, every: str) -> None:
    """With unchanged `sendAutomaticallyWhen`, `onToolCall`, `addToolOutput` and
    `addToolApprovalResponse`: each question is answered once, and nothing loops.
    """
    run_node(
        node,
        "tools.test.mjs",
        TOKENWIRE_URL=stack.url,
        RUNS=str(stack.folder / "runs"),
        EVERY_RELEASE=every,
    )


@pytest.mark.parametrize("every", [pytest.param("1", marks=pytest.mark.long, id="every"), ""])
def test_posts_while_an_answer_runs(node: str, stack: Stack, every: str) -> None:
    """All four policies. An answer that takes a message in stays one message on the screen."""
    run_node(
        node,
        "steering.test.mjs",
        TOKENWIRE_URL=stack.url,
        RUNS=str(stack.folder / "runs"),
        EVERY_RELEASE=every,
    )


def posted(stack: Stack, chat: str, message: dict[str, Any]) -> list[dict[str, Any]]:
    """A post, and the chunks of its stream."""
    body = json.dumps({"id": chat, "trigger": "submit-message", "messages": [message]})
    request = urllib.request.Request(
        f"{stack.url}/api/chat?profile=v6",
        data=body.encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def test_a_worker_dies_between_the_approval_and_the_tool(stack: Stack) -> None:
    """It stands still when the approval comes, and is killed: another one runs the tool, once."""
    text = [{"type": "text", "text": '!tool pay {"note": "killed"}'}]
    asked = posted(stack, "killed", {"id": "u", "role": "user", "parts": text})
    start = asked[0]
    call_id = next(one for one in asked if one["type"] == "tool-approval-request")["toolCallId"]
    time.sleep(1.5)  # a worker that stands still in a transaction would lock SQLite
    workers = stack.pids("worker")
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    approval = {"id": call_id, "approved": True}
    part = {"type": "tool-pay", "toolCallId": call_id, "state": "approval-responded"}
    message = {"id": start["messageId"], "role": "assistant", "parts": [part]}
    with ThreadPoolExecutor(1) as threads:
        going_on = threads.submit(
            posted, stack, "killed", message | {"parts": [part | {"approval": approval}]}
        )
        assert stack.eventually(lambda: states(stack, start["messageId"]) == ["proposed"], 20)
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        chunks = going_on.result(60)
    assert (chunks[0]["messageId"], chunks[-1]["type"]) == (start["messageId"], "finish")
    assert [one["output"] for one in chunks if one["type"] == "tool-output-available"] == ["paid"]
    assert (stack.folder / "runs").read_text().count("pay killed") == 1


def states(stack: Stack, message_id: str) -> list[str]:
    with urllib.request.urlopen(f"{stack.url}/api/messages/{message_id}/calls") as answer:
        return [call["state"] for call in json.load(answer)["calls"]]
