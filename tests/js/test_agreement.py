"""Both clients make the same of the same conversation, whatever happens in it."""

import json
import subprocess

from tests.js.histories import histories
from tests.js.packages import HERE, need_node, tool


def test_tokenwire_js_holds_what_the_python_client_holds() -> None:
    """After every step of 300 random histories: parts, texts, status, proof, and what is a hole."""
    need_node()
    made = histories(300, 30)
    steps = [step for history in made for step in history]
    events = [step for step in steps if "event" in step]
    assert 0.2 < sum(step["taken"] for step in events) / len(events) < 0.95
    assert sum(step.get("seen", {}).get("proven") is True for step in steps) > 50
    assert sum(len(step.get("seen", {}).get("parts", ())) > 3 for step in steps) > 300
    command = [tool("node"), str(HERE / "agree.mjs")]
    run = subprocess.run(
        command, input=json.dumps(made), text=True, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
