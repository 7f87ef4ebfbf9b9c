"""A whole Tokenwire, started like `make run`: real processes, its own directory, free ports."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.servers.service import free_port
from tokenwire.config.parent import dying_with_us
from tokenwire.config.settings import ROOT

_MARK = "TOKENWIRE_TEST_STACK"
_KINDS = {
    "web": "-m tokenwire.web",
    "broadcaster": "-m tokenwire.broadcaster",
    "worker": "-m tokenwire.worker",
    "redis": "valkey-server",
}

LAUNCHER = (sys.executable, "-m", "tokenwire.launcher")


class Stack:
    """One run of the launcher in `folder`: start, wait until ready, stop. `lines` is its whole
    output.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.port, self.broadcaster_port, self.redis_port = free_port(), free_port(), free_port()
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self._mark = uuid.uuid4().hex
        self._environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS", "CI")
            },
            "PYTHONPATH": str(ROOT),
            "PORT": str(self.port),
            "BROADCASTER_PORT": str(self.broadcaster_port),
            "REDIS_PORT": str(self.redis_port),
            "WORKERS": "1",
            "POSTS_PER_MINUTE_PER_USER": "0",  # tests are faster than people
            "READS_PER_MINUTE_PER_USER": "0",
            _MARK: self._mark,
            **environ,
        }

    @property
    def url(self) -> str:
        """Base URL of the web process."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def redis_url(self) -> str:
        """URL of its embedded Redis, after its start."""
        return (
            f"redis://:{(self.folder / 'var' / 'valkey.key').read_text()}"
            f"@127.0.0.1:{self.redis_port}/0"
        )

    def start(self, argv: Sequence[str] = LAUNCHER) -> None:
        """Run the launcher, or a command that starts it, as the leader of a process group."""
        self.lines.clear()
        self.process = subprocess.Popen(
            argv,
            cwd=self.folder,
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
            preexec_fn=dying_with_us(),
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Wait for the launcher's line with the address. Raises AssertionError with the whole
        output.
        """
        wanted = f"Tokenwire is running: {self.url}"
        assert self.eventually(
            lambda: any(wanted in line for line in self.lines) or self.process.poll() is not None,
            seconds,
        ), self.shown
        assert any(wanted in line for line in self.lines), self.shown

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the whole group like Ctrl-C; returns the exit code. No process may be left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        return self.ended()

    def kill(self) -> None:
        """End all of its processes at once."""
        while found := self.processes():
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.ended()

    def ended(self, seconds: float = 20) -> int:
        """The exit code of a run that ends by itself; no process may be left."""
        code = self.process.wait(seconds)
        assert self.eventually(lambda: not self.processes(), 10), (
            f"left behind: {self.processes()}\n{self.shown}"
        )
        self._reader.join(5)
        return code

    def processes(self) -> dict[int, str]:
        """All live processes of this run with pid and command line (Linux only)."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._is_ours(entry) and _runs(entry):
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    )
        return found

    def _is_ours(self, entry: Path) -> bool:
        """Marked in its environment, or working in the folder (for a server whose title overwrites
        its environment).
        """
        marked = f"{_MARK}={self._mark}".encode() in (entry / "environ").read_bytes()
        return marked or (entry / "cwd").readlink().is_relative_to(self.folder)

    def pids(self, kind: str) -> list[int]:
        """The processes of one kind (web, broadcaster, worker, redis), parents before their
        forks.
        """
        return sorted(pid for pid, command in self.processes().items() if _KINDS[kind] in command)

    def environ_of(self, pid: int) -> dict[str, str]:
        """A process's environment at its start (Linux)."""
        found = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        return dict(line.split("=", 1) for line in found if "=" in line)

    def post(self, path: str, body: object) -> Any:
        """The JSON answer of the web process."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def answers(self, path: str = "/readyz") -> bool:
        """Whether the web process answers with 200."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def eventually(self, question: Callable[[], object], seconds: float = 20) -> bool:
        """Check every 50 ms until the condition is true, at most for that long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if question():
                return True
            time.sleep(0.05)
        return False

    @property
    def shown(self) -> str:
        """The whole output, for failed assertions."""
        return "\n".join(self.lines)

    def _read(self, process: subprocess.Popen[str]) -> None:
        with process:
            for line in process.stdout or ():
                self.lines.append(line.rstrip("\n"))


def _runs(entry: Path) -> bool:
    """Not a zombie."""
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"


@contextlib.contextmanager
def running_stack(folder: Path, **environ: str) -> Iterator[Stack]:
    """A stack that is ready; at the end of the block it is killed. (How it stops, test_run_ends.py
    tests: that takes almost three seconds.)
    """
    stack = Stack(folder, environ)
    stack.start()
    try:
        stack.wait_until_ready()
        yield stack
    finally:
        stack.kill()
