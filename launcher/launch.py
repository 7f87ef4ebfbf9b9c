"""The order of a run: check, start, print the address, stop.

Start: Redis (if embedded) and the migration at the same time, then everything else, until each
process is ready: web and broadcaster answer, and workers have created their files (READY_FILE). A
process that ends for a wrong setting ends the start; later it is restarted like any other. Stop:
web and broadcaster, then the workers, which hand their answers over, then Redis.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from tokenwire.config.settings import Settings
from tokenwire.config.stopping import STOP_SIGNALS, on_stop
from tokenwire.launcher import probes
from tokenwire.launcher.child import Child
from tokenwire.launcher.console import Console
from tokenwire.launcher.procfile import Command

EXIT_UNAVAILABLE = 69

_READY_SECONDS = 30.0
_REDIS_SECONDS = 15.0
_WATCH_SECONDS = 0.25
_STOP_ORDER = (("web", "broadcaster"), ("worker",), ("redis",))
_GRACE_SECONDS = {"web": 2.5, "broadcaster": 2.5, "worker": 3.0, "redis": 1.5}
"""From SIGTERM to SIGKILL, so that a stop takes 8 s at most; a worker has DRAIN_SECONDS on top.

Of a worker's 3 s, Dramatiq takes up to half a second for its idle threads, and one second for its
log.
"""


class StartFailed(Exception):
    """The start cannot continue; the text is one line for the terminal."""

    def __init__(self, line: str, exit_code: int = EXIT_UNAVAILABLE) -> None:
        super().__init__(line)
        self.exit_code = exit_code


class Launch:
    """One run of all processes."""

    def __init__(
        self,
        settings: Settings,
        environment_of: Callable[[Command], Mapping[str, str]],
        migrate: Command,
        commands: Sequence[Command],
        console: Console,
    ) -> None:
        self._settings = settings
        self._console = console
        self._folder = Path(tempfile.gettempdir(), f"tokenwire-{uuid.uuid4().hex}")
        self._ready = {
            command.name: self._folder / command.name
            for command in commands
            if command.kind == "worker"
        }

        def environ(command: Command) -> dict[str, str]:
            file = self._ready.get(command.name)
            return {**environment_of(command), **({"READY_FILE": str(file)} if file else {})}

        self._children = [Child(command, environ(command), console) for command in commands]
        self._migration = Child(migrate, environment_of(migrate), console)

    async def run(self) -> int:
        """Start, wait for a signal (or the end of `make` or of the terminal), stop everything;
        returns the exit code.
        """
        self._folder.mkdir(0o700)
        stop = asyncio.create_task(self._asked_to_stop())
        start = asyncio.create_task(self._start())
        try:
            await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                start.result()
                await stop
        except StartFailed as error:
            self._console.print_line(str(error))
            return error.exit_code
        finally:
            start.cancel()
            await asyncio.wait({start})
            await self._stop()
            shutil.rmtree(self._folder, ignore_errors=True)
        return 0

    async def _start(self) -> None:
        self._start_all("redis")
        answers = probes.until(
            self._unless_refused(lambda: probes.redis_answers(self._settings.redis)), _REDIS_SECONDS
        )
        migrated, redis_answers = await asyncio.gather(self._migration.once(), answers)
        if migrated != 0:
            raise StartFailed("the database could not be migrated (DATABASE_URL): see above")
        if not redis_answers:
            place = (
                "REDIS_URL" if self._settings.redis_url else "REDIS_PORT; see var/valkey/valkey.log"
            )
            raise StartFailed(f"Redis does not answer ({place})")
        self._start_all("web", "broadcaster", "worker")
        await self._report()

    async def _report(self) -> None:
        """Print the address once everything is ready; until then, what is missing."""
        host = probes.reachable(self._settings.host)
        broadcaster = probes.reachable(self._settings.broadcaster_host)
        parts = {
            "web": lambda: probes.is_ready(host, self._settings.port),
            "broadcaster": lambda: probes.is_ready(broadcaster, self._settings.broadcaster_port),
            "worker": self._workers_are_ready,
        }
        while missing := [
            name
            for name, ready in parts.items()
            if not await probes.until(self._unless_refused(ready), _READY_SECONDS)
        ]:
            self._console.print_line(
                f"not ready after {_READY_SECONDS:g} s: {', '.join(missing)}; still waiting"
            )
        self._console.print_line(f"Tokenwire is running: http://{host}:{self._settings.port}")

    async def _workers_are_ready(self) -> bool:
        return all(file.exists() for file in self._ready.values())

    def _unless_refused(
        self, ready: Callable[[], Awaitable[bool]]
    ) -> Callable[[], Awaitable[bool]]:
        """Ask the same question; raises StartFailed if a process has a wrong setting."""

        async def ready_or_refused() -> bool:
            if refused := [
                child.command.name for child in self._children if child.refused.is_set()
            ]:
                raise StartFailed(f"{', '.join(refused)} cannot start: see above", os.EX_CONFIG)
            return await ready()

        return ready_or_refused

    async def _stop(self) -> None:
        self._console.print_line("stopping")
        for kinds in _STOP_ORDER:
            await asyncio.gather(
                *(
                    child.stop(self._grace(child.command.kind))
                    for child in self._children_of(*kinds)
                )
            )

    def _grace(self, kind: str) -> float:
        return _GRACE_SECONDS[kind] + (self._settings.drain_seconds if kind == "worker" else 0)

    def _start_all(self, *kinds: str) -> None:
        for child in self._children_of(*kinds):
            child.start()

    def _children_of(self, *kinds: str) -> list[Child]:
        return [child for child in self._children if child.command.kind in kinds]

    async def _asked_to_stop(self) -> None:
        asked = asyncio.Event()
        on_stop(asked.set, (*STOP_SIGNALS, signal.SIGHUP))
        parent = os.getppid() if "MAKELEVEL" in os.environ else None
        while not (asked.is_set() or self._console.closed or (parent and os.getppid() != parent)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_SECONDS):
                    await asked.wait()
