"""One process, kept running: restarted when it ends, stopped with all that it started.

Each process leads its own session: Ctrl-C reaches only the launcher, which stops the processes in
its own order, and forks of a process are found by its group. Linux kills the process when the
launcher dies in any way.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping

from tokenwire.config.parent import dying_with_us
from tokenwire.launcher.console import Console
from tokenwire.launcher.procfile import Command

_STEADY_SECONDS = 3.0
"""A process that lived this long may be restarted at once."""
_LONGEST_PAUSE_SECONDS = 5.0
_LONGEST_LINE_BYTES = 1 << 20


def pause_before_restart(quick_ends: int) -> float:
    """Seconds to wait after that many short lives in a row: 0, 0.2, 0.4 ... 5."""
    return min(_LONGEST_PAUSE_SECONDS, 0.1 * 2 ** (quick_ends - 1)) if quick_ends > 1 else 0.0


class Child:
    """A command of the Procfile. Between `start` and `stop`, it is always running or about to."""

    def __init__(self, command: Command, environ: Mapping[str, str], console: Console) -> None:
        self.command = command
        self._environ = environ
        self._console = console
        self.refused = asyncio.Event()
        """Set if the process ended because of a wrong setting, by its exit code."""
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM; after the grace, SIGKILL for it and its whole group."""
        self._stopping.set()
        if self._keeper is None:
            return
        self._signal(signal.SIGTERM)
        await asyncio.wait({self._keeper}, timeout=grace_seconds)
        if not self._keeper.done():
            self._console.print_line(
                f"{self.command.name} did not stop in {grace_seconds:g} s and is killed"
            )
            self._signal(signal.SIGKILL)
            await asyncio.wait({self._keeper})

    async def once(self) -> int:
        """Run it to its end; returns the exit code (negative: the signal that ended it)."""
        reading, writing = os.pipe()
        relay = asyncio.create_task(self._relay(reading))
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.command.argv,
                env=self._environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,
                preexec_fn=dying_with_us(),
            )
        finally:
            os.close(writing)
        if self._stopping.is_set():  # a stop came during the fork
            self._signal(signal.SIGTERM)
        try:
            return await self._process.wait()
        finally:
            self._kill_group()
            await asyncio.wait({relay}, timeout=1)
            relay.cancel()

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        quick_ends = 0
        while not self._stopping.is_set():
            began = clock()
            ended = await self._ending()
            if self._stopping.is_set():
                return
            quick_ends = quick_ends + 1 if clock() - began < _STEADY_SECONDS else 0
            if await self._stopped_within(self._announced_pause(ended, quick_ends)):
                return
            if self.refused.is_set():
                self._console.print_line(f"starting {self.command.name} again")

    def _announced_pause(self, ended: str, quick_ends: int) -> float:
        """Print that it ended; the seconds until its next start."""
        line = f"{self.command.name} ended ({ended})"
        if self.refused.is_set():  # at the start, it ends the launcher
            self._console.print_line(line)
            return _LONGEST_PAUSE_SECONDS
        pause = pause_before_restart(quick_ends)
        when = f" in {pause:g} s" if pause else ""
        self._console.print_line(f"{line}; starting it again{when}")
        return pause

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        return self._stopping.is_set()

    async def _ending(self) -> str:
        self.refused.clear()
        try:
            code = await self.once()
        except OSError as error:
            return f"{self.command.argv[0]}: {error.strerror}"
        if code == os.EX_CONFIG:
            self.refused.set()
            return "wrong setting"
        return f"exit code {code}" if code >= 0 else signal.strsignal(-code) or f"signal {-code}"

    async def _relay(self, reading: int) -> None:
        reader = asyncio.StreamReader(limit=_LONGEST_LINE_BYTES)
        pipe = os.fdopen(reading, "rb", 0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while line := await self._line(reader):
                self._console.line(self.command.name, line)
        finally:
            transport.close()

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readline()
        except ValueError:
            return b"(a line too long to show)\n"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            # Not `send_signal`: it looks for the end itself, and takes the status away from the
            # event loop if it comes just then.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
            if number is signal.SIGKILL:
                self._kill_group()

    def _kill_group(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
