"""A whole Tokenwire for faults: the launcher's processes with a second web and broadcaster, a real
Valkey, a real database, and TCP proxies between them and in front.

Processes are found from outside, by their command lines.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from tests import databases
from tests.disks import Disk
from tests.e2e.stack import Stack
from tests.servers.faultproxy import FaultProxy
from tests.servers.service import free_port
from tests.valkey import Valkey
from tokenwire.config.parent import dying_with_us

TOKEN_KEY = "chaos-" * 8
RESTART_SECONDS = 1.0
DISK_MEGABYTES = {"redis": 1024, "database": 1024}
"""Room for an hour: a disk is full when a fault fills it, not by itself."""
START_SECONDS = 180.0
"""What a start may take on a machine that does much else."""
_READY = {
    "web": "listening",
    "broadcaster": "listening",
    "worker": "Worker process is ready for action",
}
"""What each says when it takes work."""


class Balancer(FaultProxy):
    """A proxy in front of several servers; a connection goes to any of those that accept it."""

    def __init__(self, ports: list[int]) -> None:
        super().__init__("127.0.0.1", ports[0])
        self._ports = ports

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for port in random.sample(self._ports, len(self._ports)):
            self._target = ("127.0.0.1", port)
            with contextlib.suppress(ConnectionRefusedError):
                return await super()._relay(reader, writer)
        return None


class Extra:
    """One more process of a kind, started again whenever it ends."""

    def __init__(self, module: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._module, self._folder, self._environ = module, folder, environ
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            with (self._folder / f"{self._module}.2.log").open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    f"tokenwire.{self._module}",
                    cwd=self._folder,
                    env=self._environ,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    preexec_fn=dying_with_us(),
                )
            await self._process.wait()
            await asyncio.sleep(RESTART_SECONDS)

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            await self._process.wait()


class Cluster:
    """Start it, hurt it, stop it."""

    def __init__(
        self,
        folder: Path,
        database: str,
        workers: int,
        models: Mapping[str, object],
        environ: Mapping[str, str],
        http_tools: Mapping[str, object],
    ) -> None:
        self.folder, self._http_tools = folder, http_tools
        self._database, self._workers, self._models, self._more = database, workers, models, environ
        self.disks = {
            name: disk
            for name, megabytes in DISK_MEGABYTES.items()
            if (disk := _disk(megabytes)) is not None
        }
        """Of `redis` and of `database`, where this machine lets us mount them."""
        self.valkey = Valkey("everysec", self._place("redis"))
        self.postgres: databases.Postgres | None = None
        self.stack: Stack | None = None
        self._extras: list[Extra] = []

    async def start(self) -> None:
        await asyncio.to_thread(self._start_servers)
        self.redis_proxy = FaultProxy("127.0.0.1", self.valkey.port)
        await self.redis_proxy.start()
        # The demo model makes titles, so that every request to the scripted provider is for an
        # answer.
        entries = {**self._models, "titles": {"provider": "demo"}}
        catalogue = {
            "default": next(iter(self._models)),
            "title_model": "titles",
            "models": entries,
            "tools": self._http_tools,
        }
        (self.folder / "models.yml").write_text(yaml.safe_dump(catalogue))
        stack = Stack(self.folder, self._environ())
        ports = {"PORT": free_port(), "BROADCASTER_PORT": free_port()}
        self.web = Balancer([stack.port, ports["PORT"]])
        self.broadcasters = Balancer([stack.broadcaster_port, ports["BROADCASTER_PORT"]])
        await self.web.start()
        await self.broadcasters.start()
        stack._environ["BROADCASTER_URL"] = f"ws://127.0.0.1:{self.broadcasters.port}"
        self.stack = stack
        stack.start()
        await asyncio.to_thread(stack.wait_until_ready, START_SECONDS)
        self._extras = [
            Extra(module, self.folder, {**stack._environ, **_as(module, ports)})
            for module in ("web", "broadcaster")
        ]
        for extra in self._extras:
            extra.start()
        await asyncio.to_thread(stack.eventually, lambda: len(self.workers()) == self._workers, 30)
        if not await asyncio.to_thread(stack.eventually, self._has_twins, 60):
            raise AssertionError("no second web or broadcaster")

    def _has_twins(self) -> bool:
        return all(self.starts(kind) >= 2 for kind in ("web", "broadcaster"))

    def _place(self, name: str) -> Path:
        """An empty folder, on the disk of that name if there is one."""
        place = (self.disks[name].path if name in self.disks else self.folder) / name
        place.mkdir(mode=0o755)
        return place

    def _start_servers(self) -> None:
        self.valkey.start()
        place = self._place("database")
        self.database_url = f"sqlite:///{place}/chaos.db"
        if self._database == "postgresql":
            self.postgres = databases.launch(place if "database" in self.disks else None)
            self.database_url = self.postgres.database("postgres")

    def _environ(self) -> dict[str, str]:
        return {
            "REDIS_URL": f"redis://127.0.0.1:{self.redis_proxy.port}/0",
            "DATABASE_URL": self.database_url,
            "MODELS_FILE": str(self.folder / "models.yml"),
            "MODE": "development",
            "TOKEN_KEY": TOKEN_KEY,
            "WORKERS": str(self._workers),
            "DRAIN_SECONDS": "1",
            "LOG_LEVEL": "info",
            # One local user stands for all of them.
            "MAX_UNFINISHED_PER_USER": "0",
            "MAX_OPEN_PER_USER": "0",
            "POSTS_PER_MINUTE_PER_USER": "0",
            "READS_PER_MINUTE_PER_USER": "0",
            "MAX_STORED_BYTES_PER_USER": "0",
            **self._more,
        }

    @property
    def printed(self) -> list[str]:
        """Lines of the launcher and of all that it started, so far."""
        return self.stack.lines if self.stack else []

    @property
    def url(self) -> str:
        """Where any of the web processes answers."""
        return f"http://127.0.0.1:{self.web.port}"

    async def stop(self) -> None:
        """All of it; what the launcher printed stays in `launcher.log`."""
        for extra in self._extras:
            await extra.stop()
        if self.stack is not None:
            for pid in self.stack.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            self.thaw_postgres()
            self.valkey.thaw()
            (self.folder / "launcher.log").write_text(self.stack.shown)
            if self.stack.process is not None:
                await asyncio.to_thread(self.stack.stop)
            (self.folder / "launcher.log").write_text(self.stack.shown)
        for proxy in ("web", "broadcasters", "redis_proxy"):
            if hasattr(self, proxy):
                await getattr(self, proxy).aclose()
        await asyncio.to_thread(self.valkey.remove)
        if self.postgres is not None:
            await asyncio.to_thread(self.postgres.close)
        for disk in self.disks.values():
            await asyncio.to_thread(disk.remove)

    # --- who is there ---

    def pids(self, kind: str) -> list[int]:
        """The processes of a kind, parents before what they forked."""
        return self.stack.pids(kind) if self.stack else []

    def workers(self) -> list[int]:
        """The processes in which answers run: those that Dramatiq's masters forked."""
        everybody = set(self.pids("worker"))
        return [pid for pid in everybody if _parent(pid) in everybody]

    def starts(self, kind: str) -> int:
        """How often a process of this kind has said that it is ready."""
        said = [line for line in self.printed if f" {kind}" in line.partition("|")[0]]
        with contextlib.suppress(FileNotFoundError):
            said += (self.folder / f"{kind}.2.log").read_text(errors="replace").splitlines()
        return sum(_READY[kind] in line for line in said)

    # --- PostgreSQL's processes, which have groups of their own ---

    def freeze_postgres(self) -> None:
        self._signal_postgres(signal.SIGSTOP)

    def thaw_postgres(self) -> None:
        self._signal_postgres(signal.SIGCONT)

    def _signal_postgres(self, number: signal.Signals) -> None:
        if self.postgres is None or self.postgres.process is None:
            return
        parent = self.postgres.process.pid
        for pid in (parent, *_children(parent)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _disk(megabytes: int) -> Disk | None:
    with contextlib.suppress(OSError):
        return Disk(megabytes)
    return None


def _as(module: str, ports: Mapping[str, int]) -> dict[str, str]:
    # Each extra listens where its twin does not; a web process needs to know no other port.
    return {
        name: str(port) for name, port in ports.items() if (name == "PORT") == (module == "web")
    }


def _parent(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def ports_of(pid: int, server_port: int) -> set[int]:
    """The local ports of a process's connections to a server on this machine (Linux)."""
    inodes = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Columns: local address, remote address (hexadecimal, with port), and in the tenth the inode.
    return {
        int(line[1].rpartition(":")[2], 16)
        for line in lines
        if line[9] in inodes and line[2].endswith(f":{server_port:04X}")
    }
