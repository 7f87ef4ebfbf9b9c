"""README's examples of tools and documents, followed as they are printed there: a whole Tokenwire
with the demo model.
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

from tests.e2e.stack import running_stack
from tests.e2e.test_documents import block, here
from tests.servers.service import free_port
from tokenwire.config.settings import ROOT

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


def test_a_python_tool_and_an_approval(tmp_path: Path) -> None:
    """The demo model calls a tool by its name in the question. The other waits for a person."""
    (tmp_path / "mytools.py").write_text(block("README.md", "python", "def refund"))
    with running_stack(tmp_path, TOOLS="mytools") as stack:
        chat = Chat(stack.port)
        [called] = calls(chat.ask("What is the weather in Oslo?"))
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


def test_an_http_tool(tmp_path: Path) -> None:
    """The service checks the signature, and answers."""
    made = "echo whsec_$(openssl rand -base64 32)"
    assert made.removeprefix("echo ") in block("README.md", "sh", "SHOP_SECRET")
    secret = subprocess.check_output(["bash", "-c", made], text=True).strip()
    port, entry = str(free_port()), block("README.md", "yaml", "order_status")
    (tmp_path / "my-models.yml").write_text(entry.replace("8900", port))
    with (
        service(tmp_path, secret, port),
        running_stack(tmp_path, MODELS_FILE="my-models.yml", SHOP_SECRET=secret) as stack,
    ):
        [called] = calls(Chat(stack.port).ask(question("order_status")))
    assert (called["state"], called["result"]) == ("done", {"order": 5, "status": "sent"})


def test_a_tool_of_an_mcp_server(tmp_path: Path) -> None:
    """The demo model calls the server's tool, and quotes its result."""
    (tmp_path / "shop.py").write_text(block("README.md", "python", "MCPServer"))
    (tmp_path / "my-models.yml").write_text(block("README.md", "yaml", "mcp:"))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with running_stack(tmp_path, MODELS_FILE="my-models.yml") as stack:
        answer = Chat(stack.port).ask(question("shop_order_status"))
    [called] = calls(answer)
    assert (called["name"], called["state"]) == ("shop_order_status", "done")
    assert called["result"] == {"result": "Order 5 is on its way."}
    assert "Order 5 is on its way." in answer["content"]


def test_a_document(tmp_path: Path) -> None:
    """The first example's shell goes on with it."""
    begun, _, _ = block("README.md", "sh", "api=http").partition("after=")
    script = begun + block("README.md", "sh", "Fram Museum")
    with running_stack(tmp_path) as stack:
        ran = subprocess.run(
            ["bash", "-ec", here(stack, script)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert re.search(r"\{'city': '\w+'\}\s*\Z", ran.stdout), ran.stdout + ran.stderr
