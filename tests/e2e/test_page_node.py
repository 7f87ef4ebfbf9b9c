"""tokenwire.js in Node on a real Tokenwire whose broadcaster is killed while streaming."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.reader import acall
from tests.e2e.stack import Stack, running_stack
from tests.js.packages import HERE, need_node, need_packages

_MODELS = "default: demo\nmodels: {demo: {provider: demo, options: {tokens_per_second: 150}}}\n"


@pytest.mark.long
async def test_node_follows_an_answer_across_a_killed_broadcaster(
    tmp_path: Path,
) -> None:
    """Each event once, and finally the row's text, verified by its checksum."""
    need_packages()
    (tmp_path / "models.yml").write_text(_MODELS)
    with running_stack(tmp_path, MODELS_FILE=str(tmp_path / "models.yml")) as stack:
        await _follow(stack)


async def _follow(stack: Stack) -> None:
    process = await asyncio.create_subprocess_exec(
        need_node(),
        str(HERE / "follow.mjs"),
        stack.url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    first = await process.stdout.readline()
    for pid in stack.pids("broadcaster"):
        os.kill(pid, signal.SIGKILL)
    out, err = await process.communicate()
    assert (first, process.returncode) == (b"growing\n", 0), err.decode()
    held = json.loads(out)
    assert (held["status"], held["proven"]) == ("complete", True)
    assert "reconnecting" in held["states"]
    _, read = await acall(stack.url, "GET", f"/api/conversations/{held['id']}")
    assert read["messages"][-1]["content"] == held["content"]
