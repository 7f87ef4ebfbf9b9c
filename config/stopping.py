"""Stops a process by signals: the first one counts, later ones change nothing.

A supervisor may signal twice, and a terminal may add a signal. Python restores a signal's default
action when an event loop closes, and again when the interpreter ends: a signal at that moment kills
a process that has closed everything in order, and its exit status says so. Therefore the handlers
here do not belong to the loop, and the signals are ignored before the interpreter ends. They are
not ignored earlier: a process started meanwhile would inherit that.
"""

import asyncio
import atexit
import contextlib
import signal
from collections.abc import Callable, Sequence
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def on_stop(call: Callable[[], None], numbers: Sequence[signal.Signals] = STOP_SIGNALS) -> None:
    """Call this once, in the running loop, at the first of these signals."""
    loop, stopped = asyncio.get_running_loop(), False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: it stops already
                loop.call_soon_threadsafe(call)

    for number in numbers:
        signal.signal(number, stop)
    ignore_at_exit(numbers)


def ignore_at_exit(numbers: Sequence[signal.Signals] = STOP_SIGNALS) -> None:
    """Ignore these signals as soon as the interpreter begins to end."""
    atexit.register(_ignore, numbers)


def _ignore(numbers: Sequence[signal.Signals]) -> None:
    left = list(numbers)
    while left:
        # Of the handler, which another signal calls meanwhile: Dramatiq's writes to a log that may
        # be closed.
        with contextlib.suppress(Exception):
            signal.signal(left[-1], signal.SIG_IGN)
            left.pop()
