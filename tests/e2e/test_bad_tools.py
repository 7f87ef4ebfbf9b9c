"""Tools that hang, die, return far too much, bytes, or get arguments that do not fit: a whole
Tokenwire, asked over its API. Each call ends as docs/tools.md says, and nothing else suffers.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import running_stack
from tests.e2e.test_tool_examples import Chat, calls

MODULE = '''
import os
import time
from pathlib import Path

from tokenwire.tools import ToolContext, tool


def ran(name: str) -> None:
    with open(Path(__file__).with_name("ran"), "a") as file:
        file.write(name + "\\n")


@tool(seconds=0.5)
def hang() -> str:
    """Hang."""
    ran("hang")
    time.sleep(20)
    return "late"


@tool
def die() -> str:
    """Die."""
    ran("die")
    os._exit(1)


@tool
def huge() -> str:
    """Return 50 MB."""
    return "x" * 50_000_000


@tool
def binary() -> bytes:
    """Return bytes."""
    return bytes(range(256)) * 1000


@tool
def later(days: int) -> str:
    """Take a number."""
    ran("later")
    return "done"


@tool
def slow() -> str:
    """Take some seconds."""
    time.sleep(2)
    return "well"
'''


class Person:
    """Somebody who asks the demo model to call a tool. `folder`: where the tools note their
    runs.
    """

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder

    def asks(self, words: str) -> tuple[Chat, dict[str, Any], dict[str, Any]]:
        """The chat, the answer at its end or when it waits, and its call."""
        chat = Chat(self.port)
        answer = chat.ask(words)
        [call] = calls(answer)
        return chat, answer, call

    def runs(self, name: str) -> int:
        noted = self.folder / "ran"
        return noted.read_text().split().count(name) if noted.exists() else 0


def decides(chat: Chat, answer: dict[str, Any], **decision: Any) -> dict[str, Any]:
    number = [part["type"] for part in answer["parts"]].index("tool_call")
    chat.call("POST", f"/messages/{answer['id']}/calls/{number}/decision", decision)
    return chat.answer(("waiting", "queued", "streaming"))


@pytest.mark.long
def test_bad_tools(tmp_path: Path) -> None:
    """One after the other, in one installation: the later ones prove that it still works."""
    (tmp_path / "badtools.py").write_text(MODULE)
    with running_stack(tmp_path, TOOLS="badtools") as stack:
        person = Person(stack.port, tmp_path)
        _it_hangs(person)
        _it_dies(person)
        _, answer, call = person.asks("!tool huge")
        assert (answer["status"], call["state"]) == ("complete", "done")
        assert call["result"]["truncated"] is True
        assert 40_000 < len(call["result"]["text"]) <= 48 * 1024
        _, answer, call = person.asks("!tool binary")
        assert (answer["status"], call["state"]) == ("complete", "failed")
        assert call["error"] == "The tool ran and took effect, but its result cannot be shown."
        _, answer, call = person.asks('!tool later {"days": "five", "x": 1}')
        assert (answer["status"], call["state"], person.runs("later")) == ("complete", "failed", 0)
        assert "days: must be an integer" in call["error"]
        assert "x: is not a parameter" in call["error"]


def _it_hangs(person: Person) -> None:
    """Its time ends, and a person is asked."""
    chat, answer, call = person.asks("!tool hang")
    assert (answer["status"], call["state"]) == ("waiting", "awaiting_outcome")
    assert "did not end in time" in call["error"]
    answer = decides(chat, answer, decision="go_on")
    assert (answer["status"], calls(answer)[0]["state"]) == ("complete", "unknown")
    assert person.runs("hang") == 1


def _it_dies(person: Person) -> None:
    """It takes its worker along, once. A person gives the result. A call that ran beside it is
    reported as unknown, too, if it was in the same process; no answer is lost.
    """
    beside = Chat(person.port)
    post = {"content": "!tool slow"}
    beside.call("POST", f"/conversations/{beside.id}/messages", post)
    chat, answer, call = person.asks("!tool die")
    assert (answer["status"], call["state"]) == ("waiting", "awaiting_outcome")
    assert person.runs("die") == 1
    answer = decides(chat, answer, decision="result", result="It is dead.")
    assert (answer["status"], calls(answer)[0]["result"]) == ("complete", "It is dead.")
    assert person.runs("die") == 1
    other = beside.answer()
    assert calls(other)[0]["state"] in ("done", "awaiting_outcome")
