"""streams.stalled: who takes nothing is cut, who takes a little is not."""

import asyncio

from streams.stalled import Stalled

SECONDS = 0.01


class Transport(asyncio.WriteTransport):
    """Holds so many bytes, and a byte less at each look while `takes`."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.takes, self.looks = 1000, True, 0

    def get_write_buffer_size(self) -> int:
        self.looks += 1
        self.held -= self.takes
        return self.held


async def until(transport: Transport, looks: int) -> None:
    async with asyncio.timeout(20):
        while transport.looks < looks:
            await asyncio.sleep(SECONDS / 10)


async def test_a_client_that_takes_a_little_is_not_cut_until_it_stops() -> None:
    """A byte in each interval will do."""
    transport, cut = Transport(), asyncio.Event()
    stalled = Stalled(transport, SECONDS, cut.set)
    stalled.paused()
    await until(transport, 10)
    assert not cut.is_set()
    transport.takes = False
    async with asyncio.timeout(20):
        await cut.wait()
    looks = transport.looks
    await asyncio.sleep(5 * SECONDS)
    assert transport.looks == looks


async def test_who_catches_up_is_watched_no_longer() -> None:
    """And anew when there is too much again."""
    transport, cut = Transport(), asyncio.Event()
    transport.takes = False
    stalled = Stalled(transport, SECONDS, cut.set)
    stalled.paused()
    stalled.over()
    await asyncio.sleep(5 * SECONDS)
    assert not cut.is_set()
    stalled.paused()
    async with asyncio.timeout(20):
        await cut.wait()
