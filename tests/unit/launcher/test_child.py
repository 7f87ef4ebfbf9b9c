"""When the launcher restarts a child that ended, and when it stops one. tests/integration/launcher
has the rest.
"""

import asyncio
import os
import signal
from typing import Any

import pytest

from tokenwire.launcher import child as module
from tokenwire.launcher.child import Child, pause_before_restart
from tokenwire.launcher.console import Console
from tokenwire.launcher.procfile import Command


def test_the_first_ends_are_followed_by_a_quick_restart() -> None:
    """A process that is killed restarts within a second, the second and third time too."""
    assert pause_before_restart(0) == 0
    assert pause_before_restart(1) == 0
    assert pause_before_restart(3) < 1


def test_a_process_that_always_ends_is_restarted_ever_more_slowly() -> None:
    """The pause grows with each quick end, up to 5 s."""
    pauses = [pause_before_restart(ends) for ends in range(1, 20)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5


async def test_a_stop_while_the_process_is_forked_reaches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no process to signal yet. It is signalled once it exists, and is not killed after
    its grace.
    """
    forking, go_on = asyncio.Event(), asyncio.Event()
    fork, ended = asyncio.create_subprocess_exec, list[str]()

    async def slow(*argv: str, **options: Any) -> asyncio.subprocess.Process:
        forking.set()
        await go_on.wait()
        return await fork(*argv, **options)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    child = Child(Command("worker", "worker", ("sleep", "600")), dict(os.environ), Console())
    monkeypatch.setattr(child._console, "print_line", ended.append)
    child.start()
    await forking.wait()
    stopping = asyncio.create_task(child.stop(5))
    await asyncio.sleep(0)
    go_on.set()
    await stopping
    assert child._process is not None
    assert (child._process.returncode, ended) == (-signal.SIGTERM, [])


async def test_a_corrected_setting_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process ends once for a wrong setting, then for another reason: it restarts quickly
    again.
    """
    child = Child(Command("worker", "worker", ("true",)), {}, Console())
    codes = [os.EX_CONFIG, 1]

    async def once() -> int:
        return codes.pop(0)

    monkeypatch.setattr(child, "once", once)
    await child._ending()
    assert child.refused.is_set()
    await child._ending()
    assert not child.refused.is_set()


async def test_a_wrong_setting_announces_a_restart_only_when_it_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the start, the launcher stops instead."""
    lines = list[str]()
    child = Child(Command("worker", "worker", ("true",)), {}, Console())
    codes, begun = [os.EX_CONFIG, os.EX_CONFIG], asyncio.Event()

    async def once() -> int:
        if len(codes) == 1:
            monkeypatch.setattr(module, "_LONGEST_PAUSE_SECONDS", 600)
            begun.set()
        return codes.pop(0)

    monkeypatch.setattr(module, "_LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(child, "once", once)
    monkeypatch.setattr(child._console, "print_line", lines.append)
    child.start()
    await asyncio.wait_for(begun.wait(), 5)
    await asyncio.sleep(0)
    await asyncio.wait_for(child.stop(5), 5)
    ended = "worker ended (wrong setting)"
    assert lines == [ended, "starting worker again", ended]


async def test_quick_ends_count_while_they_follow_one_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that has run for a while restarts at once, however often it ended quickly
    before.
    """
    child = Child(Command("worker", "worker", ("true",)), {}, Console())
    steady, counted = [False, False, True, False], list[int]()

    async def ending() -> str:
        if not steady:
            child._stopping.set()
        else:
            monkeypatch.setattr(module, "_STEADY_SECONDS", -1.0 if steady.pop(0) else 1e9)
        return "exit code 1"

    monkeypatch.setattr(child._console, "print_line", lambda _line: None)
    monkeypatch.setattr(child, "_ending", ending)
    monkeypatch.setattr(module, "pause_before_restart", lambda ends: counted.append(ends) or 0.0)
    await child._keep()
    assert counted == [1, 2, 0, 1]
