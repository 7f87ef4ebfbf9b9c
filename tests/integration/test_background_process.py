"""A process that loses a background task, or cannot open what it needs, stops with an exit code
that restarts it.
"""

import asyncio
import os
import subprocess
import sys
from contextlib import aclosing, closing
from pathlib import Path

import pytest
import redis

from tests.servers.service import free_port
from tokenwire.config.background import EXIT_NOT_OPENED, EXIT_TASK_ENDED
from tokenwire.models.migrate import migrate
from tokenwire.worker.broker import QUEUE, make_broker
from tokenwire.worker.enqueue import Jobs

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 30.0
WEB = """
import tokenwire.web.app
from tokenwire.web.__main__ import main

async def ends(store, log):
    pass

tokenwire.web.app.keep_house = ends
main()
"""
WORKER = """
from tokenwire.worker.sweeper.sweeper import Sweeper

async def ends(self):
    pass

Sweeper.run = ends
import tokenwire.worker.main
"""
SECRET = "sesame-open-" * 4
HALF_OPENED = """
import tokenwire.worker.runtime

class Refuses:
    def __init__(self, url):
        raise OSError("no feed with the password SECRET")

tokenwire.worker.runtime.RedisPubSub = Refuses
import tokenwire.worker.main
"""
BOOT = [
    sys.executable,
    "-m",
    "dramatiq",
    "--processes",
    "1",
    "--threads",
    "2",
    "--worker-fork-timeout",
    "1000",
]


def run(tmp_path: Path, command: list[str], redis_url: str, **more: str) -> tuple[int, str]:
    """Exit code and output of a process with its own database."""
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
    } | more
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_web_stops_when_a_task_ends(tmp_path: Path, valkey_url: str) -> None:
    """As on a signal, except for the exit code."""
    code, output = run(tmp_path, [sys.executable, "-c", WEB], valkey_url)
    assert code == EXIT_TASK_ENDED, output
    assert "a task has ended, the process stops" in output
    assert "housekeeping" in output


def test_a_worker_stops_when_a_task_ends(tmp_path: Path, valkey_url: str) -> None:
    """Dramatiq's master passes the code on."""
    (tmp_path / "broken.py").write_text(WORKER)
    code, output = run(tmp_path, [*BOOT, "broken"], valkey_url)
    assert code == EXIT_TASK_ENDED, output
    assert "a task has ended, the process stops" in output
    assert "sweeper" in output


@pytest.mark.parametrize(
    ("module", "settings", "reason"),
    [
        pytest.param(
            "import tokenwire.worker.main",
            {"SSL_CERT_FILE": "/nonexistent.pem"},
            "No such file",
            id="nothing to trust",
        ),
        pytest.param(
            HALF_OPENED.replace("SECRET", SECRET),
            {"TOKEN_KEY": SECRET},
            "no feed",
            id="half opened",
        ),
    ],
)
async def test_a_worker_that_cannot_open_takes_no_job(
    tmp_path: Path, valkey_url: str, module: str, settings: dict[str, str], reason: str
) -> None:
    """It logs the reason in one line and ends; queued jobs wait for another worker."""
    (tmp_path / "broken.py").write_text(module)
    with closing(make_broker(valkey_url, threads=1)) as broker:
        async with aclosing(Jobs(valkey_url, broker)) as jobs:
            await jobs.generate("waits")
        code, output = await asyncio.to_thread(
            run, tmp_path, [*BOOT, "broken"], valkey_url, **settings
        )
        assert code == EXIT_NOT_OPENED, output
        [line] = [line for line in output.splitlines() if "the worker cannot start" in line]
        assert reason in line
        assert "Traceback" not in output
        assert SECRET not in output
        assert broker.held(["waits"]) == {"waits"}
        with redis.Redis.from_url(valkey_url) as client:
            assert (client.llen(f"dramatiq:{QUEUE}"), client.zcard(f"dramatiq:{QUEUE}.XQ")) == (
                1,
                0,
            )
