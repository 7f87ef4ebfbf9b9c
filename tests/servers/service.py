"""Foreign servers: where they are kept (var/servers), how they run, and what a test does without
them.
"""

import contextlib
import random
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.exclusive import exclusive
from tokenwire.config.parent import dying_with_us
from tokenwire.config.settings import ROOT

CACHE = ROOT / "var" / "servers"


class NotInstalled(Exception):
    """The server is not installed and could not be fetched; the text says what is missing."""


def free_port() -> int:
    """A port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def free_ports(count: int) -> int:
    """The first of that many free ports in a row, below the range for outgoing connections, so that
    none is taken later.
    """
    for first in random.sample(range(20_000, 30_000), 1_000):
        with contextlib.suppress(OSError), contextlib.ExitStack() as taken:
            for port in range(first, first + count):
                taken.enter_context(socket.create_server(("127.0.0.1", port)))
            return first
    raise RuntimeError(f"no {count} free ports in a row")


def run(*argv: str | Path, cwd: Path | None = None) -> None:
    """Run a step of an installation. Raises NotInstalled with the end of its output."""
    try:
        subprocess.run(
            [str(word) for word in argv],
            cwd=cwd,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        )
    except (OSError, subprocess.SubprocessError) as error:
        words = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise NotInstalled(f"{argv[0]}: {words[-1] if words else error}") from error


def or_skip(install: Callable[[], object]) -> None:
    """Install, or skip the test."""
    try:
        with exclusive("servers"):
            install()
    except NotInstalled as error:
        pytest.skip(str(error))


@contextlib.contextmanager
def serving(
    argv: Sequence[str | Path], health_url: str, *, cwd: Path | None = None, seconds: float = 30
) -> Iterator[None]:
    """Run a server during the block. Its output is in var/servers/<port>.log. Raises RuntimeError
    if it does not become healthy.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    log = CACHE / f"{health_url.split(':')[2].split('/')[0]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in argv],
            cwd=cwd,
            stdout=output,
            stderr=output,
            preexec_fn=dying_with_us(),
        )
    try:
        _wait_until_healthy(process, health_url, seconds, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_healthy(
    process: subprocess.Popen[bytes], url: str, seconds: float, log: Path
) -> None:
    deadline = time.monotonic() + seconds
    while not _is_healthy(url):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(
                f"{process.args!r} is not healthy: {log.read_text(errors='replace')[-2000:]}"
            )
        time.sleep(0.05)


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
