"""A process that must not outlive the one that started it. Linux has a call for it; elsewhere this does nothing.

The launcher uses it between fork and exec of everything that it starts, the worker in the processes that Dramatiq's master forks.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent(parent: int) -> None:
    """SIGKILL this process as soon as the thread of `parent` (a pid) that forked it ends; at once if it has ended already."""
    if _libc is None:
        return
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
