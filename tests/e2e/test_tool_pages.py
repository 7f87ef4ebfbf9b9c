"""The blocks of docs/tools.md and docs/python-client.md about tools, run as they are printed."""

import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Stack, running_stack
from tests.e2e.test_documents import block, here, run
from tests.e2e.test_tool_examples import Chat, calls

pytestmark = pytest.mark.long

PAGE = "docs/tools.md"
CLIENT = "docs/python-client.md"
PAY = '!tool pay {"invoice": "A7", "cents": 1200}'
MEET = "Where shall we meet? !tool pick_place"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """It has the page's module of tools, and the one with a tool of clients."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "myapp").mkdir()
    (folder / "myapp" / "tools.py").write_text(block(PAGE, "python", "def pay("))
    (folder / "myapp" / "places.py").write_text(block(PAGE, "python", "client_tool("))
    with running_stack(folder, TOOLS="myapp.tools,myapp.places") as running:
        yield running


def shell(script: str, chat: Chat, answer: str = "") -> str:
    """What the page's lines print."""
    begun = f"set -eu\napi={chat.url}\nid={chat.id}\nanswer={answer}\n"
    return subprocess.check_output(
        ["bash", "-c", begun + script], text=True, stderr=subprocess.DEVNULL, timeout=60
    )


def decided(lines: str, chat: Chat, waiting: dict[str, Any]) -> dict[str, Any]:
    """The one call, after these lines of the page have decided about it."""
    assert waiting["status"] == "waiting", waiting
    shell(lines, chat, waiting["id"])
    [called] = calls(chat.answer(("waiting", "queued", "streaming")))
    return called


def test_the_first_tools(stack: Stack) -> None:
    """The model calls one of them; a person decides about the other, in the three ways shown."""
    chat = Chat(stack.port)
    [called] = calls(chat.ask("What is the weather in Oslo?"))
    assert (called["state"], called["result"]) == ("done", {"monday": 18.5})
    approve, edited, edit, deny = block(PAGE, "sh", '"deny"').splitlines()
    called = decided(approve, chat, chat.ask(PAY))
    assert (called["state"], called["result"][:8]) == ("done", "paid for")
    called = decided(f"{edited}\n{edit}", chat, chat.ask(PAY))
    assert (called["state"], called["ran_with"]) == ("done", '{"invoice":"A7","cents":500}')
    called = decided(deny, chat, chat.ask(PAY))
    assert (called["state"], "Too much" in called["error"]) == ("denied", True)


def test_a_tool_of_a_front_end(tmp_path: Path) -> None:
    """A post brings it, and the front end gives the result, or a sentence."""
    result, error = block(PAGE, "sh", '"error"').splitlines()
    expected = ((result, "done", {"place": "Oslo"}), (error, "failed", None))
    with running_stack(tmp_path) as stack:
        for line, state, value in expected:
            chat = Chat(stack.port)
            shell(block(PAGE, "sh", "Where shall we meet?"), chat)
            called = decided(line, chat, chat.answer())
            assert (called["name"], called["state"]) == ("pick_place", state)
            assert called.get("result") == value


def test_client_tools_of_the_installation(stack: Stack, tmp_path: Path) -> None:
    """In a module, or in the file of models."""
    [called] = calls(Chat(stack.port).ask(MEET))
    assert (called["name"], called["state"]) == ("pick_place", "awaiting_client")
    entry = block(PAGE, "yaml", "client: true")
    (tmp_path / "models.yml").write_text("models:\n  demo: {provider: demo}\n" + entry)
    with running_stack(tmp_path, MODELS_FILE="models.yml") as other:
        [called] = calls(Chat(other.port).ask(MEET))
    assert (called["name"], called["state"]) == ("pick_place", "awaiting_client")


BEGUN = 'async with Tokenwire("http://127.0.0.1:8000") as tw:\n    pass\n'


async def client(stack: Stack, code: str, **names: Any) -> dict[str, Any]:
    """Run a page's block inside the client's own block."""
    first = "from tokenwire.client import Tokenwire\n" + BEGUN
    return await run(here(stack, first) + textwrap.indent(code, "    "), **names)


async def test_decisions_of_the_python_client(stack: Stack) -> None:
    """It denies what waits."""
    chat = Chat(stack.port)
    waiting = chat.ask(PAY)
    await client(stack, block(CLIENT, "python", "awaiting_approval"), message_id=waiting["id"])
    [called] = calls(chat.answer(("waiting", "queued", "streaming")))
    assert (called["state"], called["approval"]["reason"]) == ("denied", "Too much")


async def test_schemas_and_functions_of_the_python_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document becomes a model; a function of the program executes a call."""
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda words: asked.append(words) or "The museum")
    begun = "conversation = await tw.create()\n"
    with running_stack(tmp_path) as stack:
        left = await client(stack, begun + block(CLIENT, "python", "schema=Place"))
        assert isinstance(left["place"].city, str)
        left = await client(stack, begun + block(CLIENT, "python", "answer_calls("))
    [called] = [part for part in left["message"].parts if part.type == "tool_call"]
    assert (called.fields["state"], called.fields["result"]) == ("done", "The museum")
    assert len(asked) == 1
    assert asked[0].startswith("Which place near ")
