"""A process that must not outlive its parent. Linux has a call for it; elsewhere this does nothing.

The launcher uses it between fork and exec, tests use it for their servers, and the worker in the
processes that Dramatiq's master forks.
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
    """A `preexec_fn` for a process that ends with the thread that starts it. `how`: the signal for
    it and its forks.
    """
    return functools.partial(die_with_parent, os.getpid(), how)


def die_with_parent(parent: int, how: signal.Signals = signal.SIGKILL) -> None:
    """Signal this process when the thread of `parent` (a pid) that forked it ends; at once if it
    has ended.
    """
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, how, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), how)
