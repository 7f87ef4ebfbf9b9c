"""How `make run` ends, by a signal, a killed parent or a wrong setting: nothing is left, and the
next run finds the data.
"""

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import Stack
from tokenwire.config.settings import ROOT

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def _make_run() -> list[str]:
    """`make run` in another directory, with this Python's virtual environment as installed."""
    return [
        "make",
        "--file",
        str(ROOT / "Makefile"),
        f"VENV={sys.prefix}",
        f"--old-file={sys.prefix}/run.stamp",
        "run",
    ]


def test_it_leaves_nothing_and_keeps_its_data(idle_stack: Stack) -> None:
    """Ctrl-C and a closed terminal end all processes and their forks, like the SIGTERM of every
    other test. The next run has the data and the token key.
    """
    conversations: list[str] = []
    keys = set()
    for number in (signal.SIGINT, signal.SIGHUP):
        idle_stack.start(_make_run())
        idle_stack.wait_until_ready()
        assert all(idle_stack.answers(f"/api/conversations/{each}") for each in conversations), (
            idle_stack.shown
        )
        conversations.append(idle_stack.post("/api/conversations", {})["id"])
        keys.add((idle_stack.folder / "var" / "token.key").read_text())
        idle_stack.stop(number)
    assert len(keys) == 1


@linux
@pytest.mark.parametrize("who", [pytest.param("make", marks=pytest.mark.long), "launcher"])
def test_nothing_outlives_a_killed_parent(idle_stack: Stack, who: str) -> None:
    """SIGKILL of `make`, or of the launcher, which then cannot clean up: all processes end."""
    idle_stack.start(_make_run())
    idle_stack.wait_until_ready()
    launcher = next(
        pid for pid, command in idle_stack.processes().items() if "-m tokenwire.launcher" in command
    )
    os.kill(idle_stack.process.pid if who == "make" else launcher, signal.SIGKILL)
    idle_stack.ended()


def test_it_can_be_stopped_before_it_is_ready(idle_stack: Stack) -> None:
    """A signal during the start ends all started processes."""
    idle_stack.start()
    assert idle_stack.eventually(
        lambda: idle_stack.lines or (idle_stack.folder / "var" / "valkey").exists()
    )
    idle_stack.stop()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"WORKERS": "none"}, "WORKERS: "),
        ({"MODELS_FILE": "absent.yml"}, "MODELS_FILE: no such file"),
        ({"DATABASE_URL": "mysql://root:hunter2@db/x"}, "DATABASE_URL: must begin with"),
        ({"TOKEN_KEY": "hunter2"}, "TOKEN_KEY: shorter than 32 bytes"),
        ({"MODE": "production"}, "REDIS_URL is missing"),
    ],
)
def test_a_wrong_setting_stops_the_start(
    tmp_path: Path, environ: dict[str, str], line: str
) -> None:
    """One line that names it, exit code 78, and no possible secret."""
    stack = Stack(tmp_path, environ)
    stack.start()
    assert stack.ended() == 78
    assert len(stack.lines) == 1
    assert f"wrong setting: {line}" in stack.lines[0]
    assert "hunter2" not in stack.shown


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["PORT", "BROADCASTER_PORT", "REDIS_PORT"])
def test_a_port_in_use_stops_the_start(tmp_path: Path, name: str) -> None:
    """One line that names the port and its setting."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack = Stack(tmp_path, {name: str(port)})
        stack.start()
        assert stack.ended() == 69
    assert len(stack.lines) == 1
    assert f"port {port} is in use ({name})" in stack.lines[0]
