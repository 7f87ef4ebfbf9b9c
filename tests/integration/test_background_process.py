"""A process that loses one of its long-lived tasks stops in order, with an exit code that has it started again."""

import os
import subprocess
import sys
from pathlib import Path

from config.background import EXIT_TASK_ENDED
from models.migrate import migrate
from tests.servers.service import free_port

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0
WEB = """
import web.app
from web.__main__ import main

async def ends(store, tombstone_seconds):
    pass

web.app.keep_house = ends
main()
"""
WORKER = """
from worker.sweeper import Sweeper

async def ends(self):
    pass

Sweeper.run = ends
import worker.main
"""


def run(tmp_path: Path, command: list[str], redis_url: str) -> tuple[int, str]:
    """Exit code and output of a process with a database of its own."""
    database = f"sqlite:///{tmp_path}/rows.db"
    migrate(database)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        "MODE": "development",
        "TOKEN_KEY": "k" * 32,
        "PORT": str(free_port()),
        "DATABASE_URL": database,
        "REDIS_URL": redis_url,
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.returncode, done.stdout + done.stderr


def test_web_stops_when_a_task_ends(tmp_path: Path, valkey_url: str) -> None:
    """As if asked to stop, but for the exit code."""
    code, output = run(tmp_path, [sys.executable, "-c", WEB], valkey_url)
    assert code == EXIT_TASK_ENDED, output
    assert "a task has ended, the process stops" in output
    assert "housekeeping" in output


def test_a_worker_stops_when_a_task_ends(tmp_path: Path, valkey_url: str) -> None:
    """Dramatiq's master gives the code on."""
    (tmp_path / "broken.py").write_text(WORKER)
    command = [sys.executable, "-m", "dramatiq", "broken", "--processes", "1", "--threads", "2", "--worker-fork-timeout", "1000"]
    code, output = run(tmp_path, command, valkey_url)
    assert code == EXIT_TASK_ENDED, output
    assert "a task has ended, the process stops" in output
    assert "sweeper" in output
