"""The virtual clock and its processes: time jumps, a killed process is silent, a paused one
continues.
"""

import asyncio
import gc
import random
import warnings
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tests.simulation.loop import Node, VirtualLoop
from tests.simulation.net import Net, NoAnswer, Service, Weather
from tests.simulation.trace import Trace


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop(random.Random(1))
    yield made
    made.close()


def test_time_jumps_to_the_next_timer(loop: VirtualLoop) -> None:
    """An hour costs nothing."""

    async def wait() -> float:
        await asyncio.sleep(3600)
        return loop.time()

    assert loop.run(wait()) == pytest.approx(3600)


def test_a_killed_process_runs_nothing_more(loop: VirtualLoop) -> None:
    """Neither its next line nor its `finally`: SIGKILL asks nobody."""
    seen: list[str] = []

    async def work() -> None:
        try:
            seen.append("began")
            await asyncio.sleep(1)
            seen.append("went on")
        finally:
            seen.append("cleaned up")

    async def world() -> None:
        node = Node(loop, "n")
        node.spawn(work())
        await asyncio.sleep(0.5)
        node.kill()
        await asyncio.sleep(5)

    loop.run(world())
    assert seen == ["began"]


def test_a_fuse_kills_at_an_await(loop: VirtualLoop) -> None:
    """After so many callbacks."""
    node = Node(loop, "n")
    steps: list[int] = []

    async def work() -> None:
        for step in range(10):
            steps.append(step)
            await asyncio.sleep(0)

    async def world() -> None:
        node.fuse = 3
        node.spawn(work())
        await asyncio.sleep(1)

    loop.run(world())
    assert steps == [0, 1, 2]
    assert not node.alive


def test_a_paused_process_finds_its_timers_overdue(loop: VirtualLoop) -> None:
    """It goes on where it was, later than it thinks."""
    times: list[float] = []

    async def work() -> None:
        for _ in range(2):
            await asyncio.sleep(1)
            times.append(loop.time())

    async def world() -> None:
        node = Node(loop, "n")
        node.spawn(work())
        await asyncio.sleep(0.5)
        node.pause()
        await asyncio.sleep(9.5)
        node.resume()
        await asyncio.sleep(5)

    loop.run(world())
    assert times == pytest.approx([10, 11])


def test_callbacks_of_one_process_keep_their_order(loop: VirtualLoop) -> None:
    """As asyncio promises; between processes there is no order."""
    orders: dict[str, list[int]] = {"a": [], "b": []}
    mixed: list[str] = []

    def note(name: str, number: int) -> None:
        orders[name].append(number)
        mixed.append(name)

    async def world() -> None:
        for name in orders:
            node = Node(loop, name)
            for number in range(20):
                loop.call_soon(note, name, number, context=node.context)
        await asyncio.sleep(1)

    loop.run(world())
    assert orders == {"a": list(range(20)), "b": list(range(20))}
    assert mixed != sorted(mixed)


@pytest.mark.parametrize(
    ("weather", "done"), [(Weather(lost=1), 0), (Weather(unanswered=1), 1), (Weather(late=1), 1)]
)
def test_a_call_that_is_not_answered_may_have_been_carried_out(
    loop: VirtualLoop, weather: Weather, done: int
) -> None:
    """Lost, unanswered and late look alike to the caller."""
    service = Service("s", ordered=True)
    service.weather = weather
    carried_out: list[int] = []

    async def world() -> None:
        net = Net(loop, random.Random(2), Trace(loop.time))
        with pytest.raises(NoAnswer):
            await net.call(Node(loop, "n"), service, "act", lambda: carried_out.append(1))
        await asyncio.sleep(60)

    loop.run(world())
    assert len(carried_out) == done


def test_what_was_never_begun_is_thrown_away_in_silence() -> None:
    """Neither a task, nor the coroutine that it awaits: Python warns about coroutines that nobody
    awaited.
    """
    loop = VirtualLoop(random.Random(1))

    async def one(piece: Coroutine[Any, Any, None], turn: asyncio.Event) -> None:
        await turn.wait()
        await piece

    async def world() -> None:
        turn = asyncio.Event()
        loop.world.spawn(one(asyncio.sleep(1), turn))
        await asyncio.sleep(1)
        loop.world.spawn(one(asyncio.sleep(1), turn))

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loop.run(world())
        loop.close()
        gc.collect()
    assert [str(each.message) for each in told] == []
