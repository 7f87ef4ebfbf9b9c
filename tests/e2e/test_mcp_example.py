"""README's MCP server, followed as it is printed there: a whole Tokenwire with the demo model."""

import re
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.stack import running_stack
from tokenwire.config.settings import ROOT

SECTION = (ROOT / "README.md").read_text("utf-8").split("**With tools of an MCP server.**")[1]


def test_the_example(tmp_path: Path) -> None:
    """The demo model calls the server's tool, and quotes its result."""
    for language, name in (("python", "shop.py"), ("yaml", "my-models.yml")):
        [code, *_] = re.findall(rf"^```{language}\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)
        (tmp_path / name).write_text(code)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    [question, *_] = re.findall(r"`(!tool [^`]+)`", SECTION)
    with (
        running_stack(tmp_path, MODELS_FILE="my-models.yml") as stack,
        httpx.Client(base_url=f"http://127.0.0.1:{stack.port}/api") as api,
    ):
        room = api.post("/conversations", json={}).raise_for_status().json()["id"]
        api.post(f"/conversations/{room}/messages", json={"content": question})
        answer = _ended(api, room)
    [called] = [part for part in answer["parts"] if part["type"] == "tool_call"]
    assert (called["name"], called["state"]) == ("shop_order_status", "done")
    assert called["result"] == {"result": "Order 5 is on its way."}
    assert "Order 5 is on its way." in answer["content"]


def _ended(api: httpx.Client, room: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = api.get(f"/conversations/{room}").raise_for_status().json()["messages"][-1]
        if found["role"] == "assistant" and found["status"] not in ("queued", "streaming"):
            return dict(found)
        time.sleep(0.2)
    raise AssertionError("the answer did not end")
