"""A process of the project with exactly these settings and its log in a file."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tokenwire.config.parent import dying_with_us
from tokenwire.config.settings import ROOT

PATIENCE_SECONDS = 20.0
WEB = ("-m", "tokenwire.web")
BROADCASTER = ("-m", "tokenwire.broadcaster")
WORKER = ("-m", "tokenwire.worker")


def stopped(
    popen: "subprocess.Popen[bytes]",
    seconds: float = PATIENCE_SECONDS,
    number: signal.Signals = signal.SIGTERM,
) -> int:
    """The exit status of a process that is signalled repeatedly until it is gone."""
    deadline = time.monotonic() + seconds
    while popen.poll() is None:
        assert time.monotonic() < deadline
        popen.send_signal(number)
        time.sleep(0.005)
    return popen.returncode


class Process:
    """A running process and its log."""

    def __init__(self, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self.popen, self._log = popen, log

    @property
    def log(self) -> str:
        """All of the log so far."""
        return self._log.read_text()

    def says(self, words: str) -> str:
        """Wait for a line with these words; returns it."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := [line for line in self.log.splitlines() if words in line]):
            assert self.popen.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return found[0]


@contextmanager
def running(folder: Path, program: Sequence[str], **environment: str) -> Iterator[Process]:
    """Python with these arguments in `folder`; killed at the end of the block."""
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "MODE": "development",
        "TOKEN_KEY": "k" * 32,
    }
    log = folder / "process.log"
    with log.open("wb") as output:
        popen = subprocess.Popen(
            [sys.executable, *program],
            cwd=folder,
            env=given | environment,
            stdout=output,
            stderr=output,
            preexec_fn=dying_with_us(),
        )
    try:
        yield Process(popen, log)
    finally:
        popen.kill()
        popen.wait()
