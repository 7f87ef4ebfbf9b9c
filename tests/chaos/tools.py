"""The tools of a run. Each writes when a run begins and ends, past all of Tokenwire.

Workers import this module (`TOOLS`). One line is one write to a file that is opened to append, so
lines of several processes do not mix, and SIGKILL loses none that was written.
"""

import asyncio
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from tokenwire.tools import ToolContext, tool

FILE_VARIABLE = "TOOLS_CHAOS_FILE"
PAUSE_SECONDS = 1.0
"""So long a run takes: faults hit some in the middle."""


def result(key: str, run: int) -> str:
    """What each tool returns."""
    return f"{key}/{run}"


def runs_in(file: Path) -> Mapping[str, list[int]]:
    """Key of a call -> the numbers of the runs that began, in order."""
    found: dict[str, list[int]] = {}
    for line in file.read_text().splitlines() if file.exists() else ():
        word, key, run, *_ = line.split()
        if word == "begin":
            found.setdefault(key, []).append(int(run))
    return found


def last_of(file: Path, word: str, names: Collection[str]) -> tuple[int, int]:
    """How many lines with this word these tools have written, and the process of the last one."""
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    found = [int(pid) for said, _, _, name, pid in lines if said == word and name in names]
    return len(found), found[-1] if found else 0


def _write(word: str, name: str, context: ToolContext) -> None:
    file = os.open(os.environ[FILE_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{word} {context.key} {context.run} {name} {os.getpid()}\n".encode())
    finally:
        os.close(file)


async def _slowly(name: str, context: ToolContext) -> str:
    _write("begin", name, context)
    await asyncio.sleep(PAUSE_SECONDS)
    _write("end", name, context)
    return result(context.key, context.run)


@tool(repeatable=True)
async def note(context: ToolContext) -> str:
    """Note something."""
    return await _slowly("note", context)


@tool
def send(context: ToolContext) -> str:
    """Send something."""
    _write("begin", "send", context)
    time.sleep(PAUSE_SECONDS)
    _write("end", "send", context)
    return result(context.key, context.run)


@tool(approve=True)
async def pay(context: ToolContext) -> str:
    """Pay something."""
    return await _slowly("pay", context)
