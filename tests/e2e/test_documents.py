"""What README, PROTOCOL.md and docs/ print is run as it stands there, against a whole Tokenwire."""

import ast
import asyncio
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.stack import Stack, running_stack
from tokenwire.config.settings import ROOT

CATALOGUE = """
default: demo
models:
  demo:
    provider: demo
    options: {tokens_per_second: 500}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Its demo model is ten times as fast."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "models.yml").write_text(CATALOGUE)
    with running_stack(folder, MODELS_FILE="models.yml") as running:
        yield running


def block(page: str, language: str, about: str) -> str:
    """The one block of that language that holds these words."""
    text = Path(ROOT / page).read_text("utf-8")
    found = [
        code
        for code in re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        if about in code
    ]
    assert len(found) == 1, f"{page}: {len(found)} blocks say {about}"
    return str(found[0])


def here(stack: Stack, code: str) -> str:
    """The same with the addresses of the stack."""
    assert "127.0.0.1:8000" in code
    return code.replace("127.0.0.1:8000", f"127.0.0.1:{stack.port}")


async def run(code: str, **names: Any) -> dict[str, Any]:
    """Run a block, which may await at its top level; gives the names that it leaves."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    running = eval(compile(code, "a document", "exec", flags), names)  # noqa: S307 - our own page
    if running is not None:
        await running
    return names


def test_http_in_any_language(stack: Stack) -> None:
    """README: three calls of curl; the last one ends with Ctrl-C, here with the answer."""
    script = here(stack, block("README.md", "sh", "api=http"))
    *_, last = script.strip().splitlines()
    assert last.startswith("curl -N ")
    script = script.replace("curl -N ", "curl -sN --max-time 20 ").replace(
        last.partition("#")[2], ""
    )
    piped = f'set -o pipefail\n{script.rstrip().rstrip("#")} | sed \'/"type":"complete"/q\'\n'
    ran = subprocess.run(
        ["bash", "-c", piped], capture_output=True, text=True, timeout=60, check=False
    )
    assert '"type":"complete"' in ran.stdout, ran.stdout + ran.stderr


async def test_the_python_client(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """README: one question."""
    await run(here(stack, block("README.md", "python", "tw.ask")))
    assert len(capsys.readouterr().out) > 20


async def test_python_beside_the_server(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """README: a program with the same database and Redis."""
    database = f"sqlite:///{stack.folder}/var/tokenwire.db"
    code = block("README.md", "python", "async def ask")
    left = await run(code, DATABASE_URL=database, REDIS_URL=stack.redis_url)
    conversation = await left["ask"]("somebody", "Hello!")
    async with asyncio.timeout(30):
        while True:
            page = await left["store"].snapshot(conversation, "somebody", 10, None)
            if page.messages[-1].status == "complete":
                break
            await asyncio.sleep(0.1)
    assert page.messages[-1].content
    await left["jobs"].aclose()
    await left["store"].aclose()


async def test_the_pages_of_the_python_client(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/python-client.md: ask, stream, parts, follow."""
    first = here(stack, block("docs/python-client.md", "python", "Why is the sky blue?"))
    parts = block("docs/python-client.md", "python", "answer.parts")
    second = block("docs/python-client.md", "python", "change.message")
    drawn: list[tuple[str, str, str]] = []
    together = first + textwrap.indent(parts + second, "    ")
    await run(together, jwt="development", draw=lambda *seen: drawn.append(seen))
    assert len(capsys.readouterr().out) > 100
    assert drawn[-1][:2] == ("assistant", "complete")


def test_the_program_of_the_protocol(stack: Stack) -> None:
    """PROTOCOL.md: the tutorial's client with its last block, as a program."""
    text = (ROOT / "PROTOCOL.md").read_text("utf-8").split("\n## 1.")[0]
    program = here(stack, "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)))
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    begun = httpx.get(f"{stack.url}/api/conversations").json()["conversations"]
    newest = max(begun, key=lambda conversation: conversation["created_at"])
    *_, row = httpx.get(f"{stack.url}/api/conversations/{newest['id']}").json()["messages"]
    assert row["status"] == "complete"
    assert ran.stdout.endswith(f"{row['content']}\n"), ran.stderr


async def test_events_of_a_response(stack: Stack) -> None:
    """docs/openai.md: all events of a response."""
    left = await run(here(stack, block("docs/openai.md", "python", "def events")))
    events = await asyncio.to_thread(lambda: list(left["events"]("Hello!")))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"


def test_a_function_of_a_program(stack: Stack) -> None:
    """docs/openai.md: a program executes the calls of a response and sends the results."""
    source = here(stack, block("docs/openai.md", "python", "function_call_output"))
    ran = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "The tool weather returned: Sunny.\n"), ran.stderr


@pytest.mark.long
def test_an_approval_of_a_program(tmp_path: Path) -> None:
    """docs/openai.md: a call of the server's tool runs once the program allows it."""
    (tmp_path / "shop.py").write_text(block("docs/openai.md", "python", "def pay"))
    with running_stack(tmp_path, TOOLS="shop") as stack:
        source = here(stack, block("docs/openai.md", "python", "mcp_approval_response"))
        ran = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=False
        )
    printed = ran.stdout.removesuffix("\n")
    assert (ran.returncode, printed) == (0, "The tool pay returned: Paid Ada."), ran.stderr
    assert f"prints `{printed}`" in (ROOT / "docs" / "openai.md").read_text("utf-8")


def test_checks_of_the_catalogue(stack: Stack, tmp_path: Path) -> None:
    """README: a catalogue of one's own is read, and its model listed."""
    (tmp_path / "my-models.yml").write_text(block("README.md", "yaml", "my-models.yml"))
    ran = subprocess.run(
        [sys.executable, "-m", "tokenwire", "models", "--models-file", "my-models.yml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "HOUSE_KEY": "k"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, "house" in ran.stdout) == (0, True), ran.stderr
