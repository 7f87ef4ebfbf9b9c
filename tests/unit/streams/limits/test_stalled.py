"""streams.limits.stalled: a client that takes nothing is cut off, one that takes a little is
not.
"""

import asyncio
from typing import Any

from tests.waiting import until
from tokenwire.streams.limits.stalled import Stalled

SECONDS = 0.01


class Transport(asyncio.WriteTransport):
    """Holds that many bytes, and one byte less at each check while `takes`."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.takes, self.looks = 1000, True, 0

    def get_write_buffer_size(self) -> int:
        self.looks += 1
        self.held -= self.takes
        return self.held


def timers() -> list[asyncio.TimerHandle]:
    """The scheduled calls: none while no client is watched."""
    loop: Any = asyncio.get_running_loop()
    return [timer for timer in loop._scheduled if not timer.cancelled()]


async def test_a_slow_client_is_not_cut_until_it_stops() -> None:
    """A byte per interval is enough."""
    transport, cut = Transport(), asyncio.Event()
    stalled = Stalled(transport, SECONDS, cut.set)
    stalled.paused()
    await until(lambda: transport.looks >= 10)
    assert not cut.is_set()
    transport.takes = False
    await until(cut.is_set)
    assert timers() == []


async def test_a_client_that_catches_up_is_not_watched() -> None:
    """Until too much is waiting again."""
    transport, cut = Transport(), asyncio.Event()
    transport.takes = False
    stalled = Stalled(transport, SECONDS, cut.set)
    stalled.paused()
    assert len(timers()) == 1
    stalled.over()
    assert timers() == []
    stalled.paused()
    await until(cut.is_set)
