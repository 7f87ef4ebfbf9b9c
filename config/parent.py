"""A process that must not outlive the one that started it. Linux has a call for it; elsewhere this does nothing.

The launcher uses it between fork and exec of everything that it starts, so do tests for their servers, and the worker in the processes
that Dramatiq's master forks.
"""

import ctypes
import functools
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def dying_with_us(how: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """The `preexec_fn` of a process that is to end with the thread that starts it. `how`: the signal that ends it and what it forked."""
    return functools.partial(die_with_parent, os.getpid(), how)


def die_with_parent(parent: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Signal this process as soon as the thread of `parent` (a pid) that forked it ends; at once if it has ended already."""
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, how, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), how)
