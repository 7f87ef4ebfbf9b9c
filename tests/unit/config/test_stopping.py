"""config/stopping.py: the first signal counts; later ones change nothing until the process is
gone.
"""

import signal
import subprocess
import sys

import pytest

from tests.integration.processes import stopped
from tokenwire.config.parent import dying_with_us

STOPS = """
import asyncio, sys, time
from tokenwire.config.stopping import on_stop

async def main():
    stop = asyncio.Event()
    on_stop(lambda: (print("told", flush=True), stop.set()))
    print("ready", flush=True)
    await stop.wait()
    await asyncio.sleep(0.1)

loop_factory = None
if sys.argv[1] == "uvloop":
    import uvloop
    loop_factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=loop_factory) as runner:
    runner.run(main())
time.sleep(0.1)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_until_the_process_is_gone(loop: str, number: signal.Signals) -> None:
    """It stops once and exits by itself: signals come during its loop, after its close, and at the
    interpreter's end.
    """
    with subprocess.Popen(
        [sys.executable, "-c", STOPS, loop], stdout=subprocess.PIPE, preexec_fn=dying_with_us()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert stopped(process, number=number) == 0
        assert process.stdout.read() == b"told\n"


RAISES = """
import atexit, os, signal, time
from tokenwire.config.stopping import ignore_at_exit

@atexit.register  # it runs last
def tell():
    print(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)

def handler(number, frame):
    raise RuntimeError("the log is closed")

def interrupted(number, action):
    global interrupted_once
    if not interrupted_once:
        interrupted_once = True
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)  # until the handler raises
    return set_action(number, action)

interrupted_once, set_action = False, signal.signal
signal.signal(signal.SIGTERM, handler)
ignore_at_exit()
signal.signal = interrupted
"""


def test_a_handler_that_fails_at_the_end_leaves_the_signals_ignored() -> None:
    """Else the next signal kills the process, and its exit status says so."""
    found = subprocess.run(
        [sys.executable, "-c", RAISES], capture_output=True, timeout=60, check=True
    )
    assert found.stdout == b"True\n", found.stderr
