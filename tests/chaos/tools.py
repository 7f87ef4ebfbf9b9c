"""The tools of a run. Each writes when a run begins and ends, past all of Tokenwire.

Workers import this module (`TOOLS`). One line is one write to a file that is opened to append, so
lines of several processes do not mix, and SIGKILL loses none that was written.

`place` is the call, by the number of its text: the model gives each call another one. A worker
reads it when it checks the arguments, and once more in front of each run, so these lines show a
worker between an approval and the run.
"""

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from tokenwire.tools import ToolContext, client_tool, tool

FILE_VARIABLE, SECONDS_VARIABLE = "TOOLS_CHAOS_FILE", "TOOLS_CHAOS_SECONDS"
PAUSE_SECONDS = float(os.environ.get(SECONDS_VARIABLE, "1"))
"""So long a run takes: faults hit some in the middle."""
PARAMETERS = {"type": "object", "properties": {"place": {"type": "integer"}}}


@dataclass(frozen=True, slots=True)
class Line:
    """What a tool wrote. `pid`: its process; of HTTP tools the port of the connection, negative."""

    word: str
    """`read`, `begin` or `end`."""
    key: str
    run: int
    name: str
    pid: int
    message_id: str
    place: int

    @classmethod
    def parsed(cls, text: str) -> "Line":
        word, key, run, name, pid, message_id, place = text.split()
        return cls(word, key, int(run), name, int(pid), message_id, int(place))

    def write(self, file: str | Path) -> None:
        values = (self.word, self.key, self.run, self.name, self.pid, self.message_id, self.place)
        opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(opened, f"{' '.join(map(str, values))}\n".encode())
        finally:
            os.close(opened)


def result(key: str, run: int) -> str:
    """What each tool returns."""
    return f"{key}/{run}"


def lines_in(file: Path) -> list[Line]:
    """All that the tools wrote."""
    return [Line.parsed(text) for text in file.read_text().splitlines()] if file.exists() else []


def runs_in(file: Path) -> Mapping[str, list[int]]:
    """Key of a call -> the numbers of the runs that began, in order."""
    found: dict[str, list[int]] = {}
    for line in lines_in(file):
        if line.word == "begin":
            found.setdefault(line.key, []).append(line.run)
    return found


def keys_in(file: Path) -> Mapping[tuple[str, int], Collection[str]]:
    """An answer and a call in it -> the keys that its runs had."""
    found: dict[tuple[str, int], set[str]] = {}
    for line in lines_in(file):
        if line.word == "begin":
            found.setdefault((line.message_id, line.place), set()).add(line.key)
    return found


def _write(word: str, name: str, context: ToolContext, place: int) -> None:
    line = Line(word, context.key, context.run, name, os.getpid(), context.message_id, place)
    line.write(os.environ[FILE_VARIABLE])


def _seen(place: int) -> int:
    Line("read", "-", 0, "-", os.getpid(), "-", place).write(os.environ[FILE_VARIABLE])
    return place


Place = Annotated[int, AfterValidator(_seen)]


async def _slowly(name: str, context: ToolContext, place: int) -> str:
    _write("begin", name, context, place)
    await asyncio.sleep(PAUSE_SECONDS)
    _write("end", name, context, place)
    return result(context.key, context.run)


@tool(repeatable=True)
async def note(context: ToolContext, place: Place) -> str:
    """Note something."""
    return await _slowly("note", context, place)


@tool
def send(context: ToolContext, place: Place) -> str:
    """Send something."""
    _write("begin", "send", context, place)
    time.sleep(PAUSE_SECONDS)
    _write("end", "send", context, place)
    return result(context.key, context.run)


@tool(approve=True)
async def pay(context: ToolContext, place: Place) -> str:
    """Pay something."""
    return await _slowly("pay", context, place)


pick = client_tool("pick", "Let a person pick something.", PARAMETERS)
