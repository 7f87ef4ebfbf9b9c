"""README's examples of tools and documents, followed as they are printed there: a whole Tokenwire
with the demo model. One has all tools of the page: a start costs more than a test.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.stack import Stack, running_stack
from tests.e2e.test_documents import block, here
from tests.servers.service import free_port
from tokenwire.config.settings import ROOT

WEATHER = "What is the weather in Oslo?"
README = (ROOT / "README.md").read_text("utf-8")


def question(name: str) -> str:
    """What the page says to ask about this tool."""
    [found] = re.findall(rf"`(!tool {name} [^`]+)`", README)
    return str(found)


class Chat:
    """A conversation of somebody who follows the page."""

    def __init__(self, port: int, **fields: Any) -> None:
        self.url = f"http://127.0.0.1:{port}/api"
        self.id = self.call("POST", "/conversations", fields)["id"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The decoded answer to a request."""
        return httpx.request(method, self.url + path, json=body).raise_for_status().json()

    def ask(self, content: str, **more: Any) -> dict[str, Any]:
        """The answer, at its end or when it waits."""
        self.call("POST", f"/conversations/{self.id}/messages", {"content": content, **more})
        return self.answer()

    def approve(self, waiting: dict[str, Any]) -> dict[str, Any]:
        """The answer after its one call was allowed."""
        number = waiting["parts"].index(*calls(waiting))
        path = f"/messages/{waiting['id']}/calls/{number}/decision"
        self.call("POST", path, {"decision": "approve"})
        return self.answer(("waiting", "queued", "streaming"))

    def answer(self, passing: Sequence[str] = ("queued", "streaming")) -> dict[str, Any]:
        """The last answer, when it has none of these states."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = self.call("GET", f"/conversations/{self.id}")["messages"][-1]
            if found["role"] == "assistant" and found["status"] not in passing:
                return dict(found)
            time.sleep(0.2)
        raise AssertionError("the answer did not end")


def calls(answer: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for part in answer["parts"] if part["type"] == "tool_call"]


@contextmanager
def service(folder: Path, secret: str, port: str) -> Iterator[None]:
    """The service of docs/tools.md, on another port."""
    code = block("docs/tools.md", "python", "class Shop(")
    assert "8900" in code
    (folder / "shop_service.py").write_text(code.replace("8900", port))
    process = subprocess.Popen(
        [sys.executable, "-P", folder / "shop_service.py"],
        env={**os.environ, "SHOP_SECRET": secret},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def everything(
    folder: Path, models: dict[str, Any] | None = None, **environ: str
) -> Iterator[Stack]:
    """A Tokenwire with all tools of the page, and these models; without any, those of the page."""
    made = "whsec_$(openssl rand -base64 32)"
    assert made in block("README.md", "sh", "SHOP_SECRET")
    secret = subprocess.check_output(["bash", "-c", f"echo {made}"], text=True).strip()
    port = str(free_port())
    catalogue = yaml.safe_load(block("README.md", "yaml", "order_status:").replace("8900", port))
    catalogue |= yaml.safe_load(block("README.md", "yaml", "mcp:"))
    catalogue |= {"models": models} if models else {}
    (folder / "my-models.yml").write_text(yaml.safe_dump(catalogue))
    (folder / "mytools.py").write_text(block("README.md", "python", "def refund"))
    (folder / "shop.py").write_text(block("README.md", "python", "MCPServer"))
    (folder / ".venv").symlink_to(sys.prefix)
    named = {"TOOLS": "mytools", "MODELS_FILE": "my-models.yml", "SHOP_SECRET": secret, **environ}
    with service(folder, secret, port), running_stack(folder, **named) as stack:
        yield stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With the demo model."""
    with everything(tmp_path_factory.mktemp("stack")) as running:
        yield running


def test_a_python_tool_and_an_approval(stack: Stack) -> None:
    """The demo model calls a tool by its name in the question. The other waits for a person."""
    assert WEATHER in README
    chat = Chat(stack.port)
    [called] = calls(chat.ask(WEATHER))
    assert (called["name"], called["state"]) == ("weather", "done")
    assert called["result"]["degrees"] == 7
    waiting = chat.ask(question("refund"))
    assert waiting["status"] == "waiting"
    answer = chat.approve(waiting)
    assert "Refunded 700 cents of order 5." in answer["content"]
    refuses_its_name(chat, "weather")


def refuses_its_name(chat: Chat, name: str) -> None:
    """Workers report what their modules have, and a post cannot bring a tool of that name."""
    own = {"name": name, "parameters": {"type": "object"}}
    post = {"content": "hi", "tools": {"client": [own]}}
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        refused = httpx.post(f"{chat.url}/conversations/{chat.id}/messages", json=post)
        if refused.status_code == 422:
            [error] = refused.json()["errors"]
            assert error["message"] == f"a tool of the server is called {name}"
            return
        assert refused.status_code == 202
        time.sleep(1)
    raise AssertionError("the name was not refused")


def test_an_http_tool(stack: Stack) -> None:
    """The service checks the signature, and answers."""
    [called] = calls(Chat(stack.port).ask(question("order_status")))
    assert (called["state"], called["result"]) == ("done", {"order": 5, "status": "sent"})


def test_a_tool_of_an_mcp_server(stack: Stack) -> None:
    """The demo model calls the server's tool, and quotes its result. A server that needs longer for
    its start than workers wait for it is found later.
    """
    deadline = time.monotonic() + 60
    while not calls(answer := Chat(stack.port).ask(question("shop_order_status"))):
        assert time.monotonic() < deadline
        assert "There is no tool shop_order_status" in answer["content"]
        time.sleep(1)
    [called] = calls(answer)
    assert (called["name"], called["state"]) == ("shop_order_status", "done")
    assert called["result"] == {"result": "Order 5 is on its way."}
    assert "Order 5 is on its way." in answer["content"]


def test_a_document(stack: Stack) -> None:
    """The first example's shell goes on with it."""
    begun, _, _ = block("README.md", "sh", "api=http").partition("after=")
    script = begun + block("README.md", "sh", "Fram Museum")
    ran = subprocess.run(
        ["bash", "-ec", here(stack, script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert re.search(r"\{'city': '\w+'\}\s*\Z", ran.stdout), ran.stdout + ran.stderr
