"""streams.hub.hub: every reader sees each seq once and in order, whatever pub/sub loses."""

import asyncio
from collections.abc import Awaitable, Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import many
from tests.unit.streams.hub.rig import Reader, Rig, turn, until
from tokenwire.streams.hub.hub import RING_EVENTS

step = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 9)),
    st.tuples(st.just("lose"), st.integers(1, 6)),
    st.tuples(st.just("double"), st.integers(1, 6)),
    st.tuples(st.just("cut"), st.just(0)),
    st.tuples(st.just("mend"), st.just(0)),
    st.tuples(st.just("flood"), st.just(0)),
    st.tuples(st.just("epoch"), st.just(0)),
    st.tuples(st.just("join"), st.just(0)),
    st.tuples(st.just("leave"), st.just(0)),
    st.tuples(st.just("refresh"), st.just(0)),
    st.tuples(st.just("suspect"), st.just(0)),
    st.tuples(st.just("turn"), st.integers(1, 6)),
    st.tuples(st.just("turn"), st.integers(1, 2)),
)


class Schedule:
    """Runs a drawn list of steps."""

    def __init__(self) -> None:
        self.rig = Rig()
        self.readers: list[Reader] = []
        self.connected = True

    async def run(self, steps: list[tuple[str, int]]) -> None:
        await self.rig.start()
        await self.join(0)
        for name, number in steps:
            act: Callable[[int], Awaitable[None]] = getattr(self, name)
            await act(number)
        await self.mend(0)
        self.rig.pubsub.losing = 0
        tail = await self.rig.hub.open("c")
        page = await tail.refresh()
        await until(
            lambda: all(
                reader.reading is None and reader.cursor == page.top for reader in self.readers
            )
        )
        await turn()
        for reader in self.readers:
            assert reader.epoch == page.epoch
            assert reader.seen == list(range(reader.first + 1, page.top + 1))
        await self.rig.hub.aclose()

    async def write(self, number: int) -> None:
        await self.rig.write(number)

    async def lose(self, number: int) -> None:
        self.rig.pubsub.losing = number

    async def double(self, number: int) -> None:
        self.rig.pubsub.doubling = number

    async def cut(self, _: int) -> None:
        self.rig.pubsub.cut()
        self.connected = False

    async def mend(self, _: int) -> None:
        if not self.connected:
            self.rig.pubsub.mend()
            self.connected = True

    async def flood(self, _: int) -> None:
        await self.rig.write(RING_EVENTS + 10)

    async def epoch(self, _: int) -> None:
        await self.rig.new_epoch()

    async def join(self, _: int) -> None:
        if self.connected or self.readers:
            self.readers.append(Reader(await self.rig.hub.open("c")))

    async def leave(self, _: int) -> None:
        if len(self.readers) > 1:
            reader = self.readers.pop()
            reader.stop()
            self.rig.hub.release(reader.tail)

    async def refresh(self, _: int) -> None:
        if self.readers:
            await self.readers[0].tail.refresh()

    async def suspect(self, _: int) -> None:
        if self.readers:
            self.readers[0].tail.catch_up()

    async def turn(self, number: int) -> None:
        await turn(number)


@settings(max_examples=many(400), deadline=None)
@given(st.lists(step, max_size=40))
def test_every_reader_sees_each_seq_once_and_in_order(steps: list[tuple[str, int]]) -> None:
    """Whatever is lost, doubled, cut or restarted: from its cursor to the top, without a hole or
    repetition.
    """
    asyncio.run(Schedule().run(steps))
