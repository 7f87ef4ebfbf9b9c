"""The launcher with small stand-ins for the Procfile's processes: order, restarts and ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.servers.service import free_port
from tokenwire.config.parent import dying_with_us
from tokenwire.config.settings import ROOT, Settings
from tokenwire.config.stopping import STOP_SIGNALS
from tokenwire.launcher import launch, probes
from tokenwire.launcher.console import Console
from tokenwire.launcher.launch import EXIT_UNAVAILABLE, Launch
from tokenwire.launcher.procfile import Command

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
REDIS = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = server.accept(); client.sendall(b"+PONG\\r\\n"); client.close()
"""
READY = "import os, time; open(os.environ['READY_FILE'], 'w').close(); "
FORKS = f"{READY} print('worker', os.getpid(), flush=True); os.fork(); time.sleep(600)"
STUBBORN = (
    f"{READY} import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', "
    "flush=True); time.sleep(600)"
)

SAYS_SO = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"terminated\\n"), os._exit(0)))
"""

LAUNCHER = """
import asyncio, os
from tokenwire.launcher.child import Child
from tokenwire.launcher.console import Console
from tokenwire.launcher.procfile import Command
async def main():
    await Child(Command("worker", "worker", ("sleep", "600")), dict(os.environ), Console()).once()
asyncio.run(main())
"""


def _python(kind: str, code: str, *arguments: object) -> Command:
    return Command(kind, kind, (sys.executable, "-c", code, *map(str, arguments)))


class Recorder(Console):
    """A console that keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def line(self, name: str, text: str | bytes) -> None:
        self.lines.append(f"{name}: {text.decode() if isinstance(text, bytes) else text}".rstrip())


class Run:
    """A launch of stand-ins, and its visible effects."""

    def __init__(self, worker: str = FORKS, migrate: str = "", redis: str = REDIS) -> None:
        port, broadcaster_port, redis_port = free_port(), free_port(), free_port()
        settings = Settings(
            mode="development",
            port=port,
            broadcaster_port=broadcaster_port,
            redis_port=redis_port,
            drain_seconds=0,
        )
        stand_ins = [
            _python("web", SERVER, port),
            _python("broadcaster", SERVER, broadcaster_port),
            _python("redis", redis, redis_port),
        ]
        self.console = Recorder()
        self.launch = Launch(
            settings,
            lambda _: dict(os.environ),
            _python("migrate", migrate),
            [*stand_ins, _python("worker", worker)],
            self.console,
        )
        self.ready = f"tokenwire: Tokenwire is running: http://127.0.0.1:{port}"

    async def sees(self, line: str, times: int = 1) -> None:
        async def seen() -> bool:
            return sum(each.startswith(line) for each in self.console.lines) >= times

        assert await probes.until(seen, 20), f"{line!r} x {times} not in {self.console.lines}"

    def workers(self) -> list[int]:
        return [
            int(line.split()[-1])
            for line in self.console.lines
            if line.startswith("worker: worker")
        ]


def _alive(group: int) -> list[str]:
    """The running processes of a group; a dead one that is not collected yet (Z) does not count."""
    rows = subprocess.run(
        ["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        row for row in rows if int(row.split()[0]) == group and not row.split()[1].startswith("Z")
    ]


def _group_is_empty(group: int) -> Callable[[], Awaitable[bool]]:
    async def question() -> bool:
        return not _alive(group)

    return question


async def _stopped(running: asyncio.Task[int], number: signal.Signals = signal.SIGTERM) -> int:
    os.kill(os.getpid(), number)
    return await asyncio.wait_for(running, 20)


@pytest.fixture(autouse=True)
def _signals_are_given_back() -> Iterator[None]:
    """A launch keeps them until its own process ends; here the process continues."""
    kept = {number: signal.getsignal(number) for number in (*STOP_SIGNALS, signal.SIGHUP)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


async def test_it_prints_its_address_and_leaves_nothing_behind() -> None:
    """It is ready once web and broadcaster answer. After SIGTERM no process of any group is left,
    forks included.
    """
    run = Run()
    running = asyncio.create_task(run.launch.run())
    await run.sees(run.ready)
    await run.sees("worker: worker")
    assert await _stopped(running) == 0
    assert not _alive(run.workers()[0])


async def test_processes_stop_in_the_order_of_their_needs() -> None:
    """No requests arrive when the workers hand their answers over, and Redis is there until they
    have.
    """
    run = Run()
    for child in run.launch._children:
        name, _, code, *arguments = child.command.argv
        child.command = Command(
            child.command.kind, child.command.name, (name, "-c", SAYS_SO + code, *arguments)
        )
    running = asyncio.create_task(run.launch.run())
    await run.sees(run.ready)
    await run.sees("worker: worker")
    assert await _stopped(running) == 0
    ends = [line.partition(":")[0] for line in run.console.lines if line.endswith(": terminated")]
    assert sorted(ends[:2]) == ["broadcaster", "web"]
    assert ends[-1] == "redis"
    assert set(ends[2:-1]) == {"worker"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_it_stops_with_its_terminal(number: signal.Signals) -> None:
    """Ctrl-C, or a closed window."""
    run = Run()
    running = asyncio.create_task(run.launch.run())
    await run.sees("worker: worker")
    assert await _stopped(running, number) == 0


async def test_it_stops_when_make_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed `make` signals nobody: its child notices another parent."""
    run, parent = Run(), os.getppid()
    monkeypatch.setenv("MAKELEVEL", "1")
    monkeypatch.setattr(
        launch,
        "os",
        SimpleNamespace(environ=os.environ, EX_CONFIG=os.EX_CONFIG, getppid=lambda: parent),
    )
    running = asyncio.create_task(run.launch.run())
    await run.sees("worker: worker")
    parent = 1
    assert await asyncio.wait_for(running, 20) == 0


async def test_a_worker_has_its_time_to_drain() -> None:
    """On top of the grace of every process."""
    run = Run()
    run.launch._settings = run.launch._settings.model_copy(update={"drain_seconds": 7})
    assert run.launch._grace("worker") == launch._GRACE_SECONDS["worker"] + 7
    assert run.launch._grace("web") == launch._GRACE_SECONDS["web"]


async def test_a_too_long_line_does_not_end_the_output() -> None:
    """It is mentioned, and later lines are shown."""
    run = Run(worker=f"{READY} print('x' * (2 << 20)); print('after', flush=True); time.sleep(600)")
    running = asyncio.create_task(run.launch.run())
    await run.sees("worker: (a line too long to show)")
    await run.sees("worker: after")
    await _stopped(running)


async def test_a_killed_process_is_started_again() -> None:
    """SIGKILL of one process restarts it with its forks and leaves the others alone."""
    run = Run()
    running = asyncio.create_task(run.launch.run())
    await run.sees("worker: worker")
    first = run.workers()[0]
    os.kill(first, signal.SIGKILL)
    await run.sees("worker: worker", times=2)
    assert await probes.until(_group_is_empty(first), 2)
    assert [line for line in run.console.lines if "ended" in line] == [
        "tokenwire: worker ended (Killed); starting it again"
    ]
    await _stopped(running)


async def test_a_deaf_process_is_killed() -> None:
    """A process that ignores SIGTERM is killed after its grace, which is logged."""
    run = Run(worker=STUBBORN)
    running = asyncio.create_task(run.launch.run())
    await run.sees("worker: deaf")
    assert await _stopped(running) == 0
    await run.sees("tokenwire: worker did not stop in 3 s and is killed")


async def test_a_command_that_cannot_run_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program gives a line without a traceback, and the rest continues."""
    monkeypatch.setattr(launch, "_READY_SECONDS", 1.0)
    run = Run()
    run.launch._children_of("worker")[0].command = Command("worker", "worker", ("no-such-program",))
    running = asyncio.create_task(run.launch.run())
    await run.sees(
        "tokenwire: worker ended (no-such-program: No such file or directory); starting it "
        "again in 0.2 s"
    )
    await run.sees("tokenwire: not ready after 1 s: worker; still waiting")
    await _stopped(running)


async def test_a_failed_migration_ends_the_start() -> None:
    """Nothing starts on a database that could not be migrated."""
    run = Run(migrate="import sys; sys.exit('no such host')")
    assert await asyncio.wait_for(run.launch.run(), 20) == EXIT_UNAVAILABLE
    assert "migrate: no such host" in run.console.lines
    assert not run.workers()
    await run.sees("tokenwire: the database could not be migrated (DATABASE_URL)")


@pytest.mark.parametrize("kind", ["web", "worker"])
async def test_a_process_with_a_wrong_setting_ends_the_start(kind: str) -> None:
    """It names the setting, and is not restarted again and again. A worker needs longer than the
    others to find out.
    """
    run = Run()
    run.launch._children_of(kind)[0].command = _python(
        kind, "import sys, time; time.sleep(1); print('wrong setting: X'); sys.exit(78)"
    )
    assert await asyncio.wait_for(run.launch.run(), 20) == os.EX_CONFIG
    assert run.console.lines.count(f"{kind}: wrong setting: X") == 1
    await run.sees(f"tokenwire: {kind} cannot start: see above")
    assert not any("starting" in line for line in run.console.lines)
    assert not any(line.startswith(run.ready) for line in run.console.lines)


async def test_an_embedded_redis_that_is_not_installed_ends_the_start() -> None:
    """At once, without waiting for Redis."""
    run = Run(redis="import sys; print('neither is installed'); sys.exit(78)")
    assert await asyncio.wait_for(run.launch.run(), 10) == os.EX_CONFIG
    await run.sees("redis: neither is installed")
    await run.sees("tokenwire: redis cannot start: see above")


async def test_a_redis_that_does_not_answer_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs and readers need it; the line names the setting."""
    monkeypatch.setattr(launch, "_REDIS_SECONDS", 0.2)
    run = Run(redis="import time; time.sleep(600)")
    assert await asyncio.wait_for(run.launch.run(), 20) == EXIT_UNAVAILABLE
    assert not run.workers()
    await run.sees("tokenwire: Redis does not answer (REDIS_PORT; see var/valkey/valkey.log)")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_everything_dies_with_the_launcher() -> None:
    """SIGKILL of the launcher, which it cannot handle, still ends all that it started."""
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LAUNCHER, cwd=ROOT, preexec_fn=dying_with_us()
    )
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")

    async def has_child() -> bool:
        return "sleep" in [
            Path(f"/proc/{pid}/comm").read_text().strip() for pid in children.read_text().split()
        ]

    assert await probes.until(has_child, 10)
    child = int(children.read_text().split()[0])
    launcher.kill()
    await launcher.wait()
    assert await probes.until(_group_is_empty(child), 5)
