"""What the readers of one conversation share."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tokenwire.config import background
from tokenwire.streams.hub.hub import Tail
from tokenwire.streams.hub.room import HeartbeatPace, Room
from tokenwire.streams.log.ports import Page


class QuietTail:
    """A tail whose reads end when the test says so."""

    conversation_id, epoch, version, top, running, gone = "c", "e", 1, 0, False, False
    revoked: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.wake: Callable[[], None] = lambda: None
        self.asked: asyncio.Future[Page] = asyncio.get_running_loop().create_future()

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        self.wake = wake
        return lambda: None

    def since(self, after: int) -> list[Any]:
        return []

    async def refresh(self) -> Page:
        return await self.asked


class Timers:
    """Stands in for the loop's `call_later`: lists due calls, and runs none by itself."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, delay: float, call: Callable[[], object]) -> "Timers.Handle":
        self.waiting.append((delay, call))
        return Timers.Handle(self, self.waiting[-1])

    def fire(self) -> None:
        self.waiting.pop(0)[1]()

    class Handle:
        def __init__(self, timers: "Timers", entry: tuple[float, Callable[[], object]]) -> None:
            self._timers, self._entry = timers, entry

        def cancel(self) -> None:
            if self._entry in self._timers.waiting:
                self._timers.waiting.remove(self._entry)


async def test_an_answer_that_begins_during_a_read_makes_no_second_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is one heartbeat at a time, at the present pace; a closed room has none."""
    tail, timers = QuietTail(), Timers()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", timers.call_later)
    room = Room(cast("Tail", tail), HeartbeatPace(5.0, 25.0))
    timers.fire()
    await asyncio.sleep(0)
    tail.running = True
    tail.wake()
    tail.asked.set_result(Page("e", 1, 0, 0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [delay for delay, _ in timers.waiting] == [5.0]
    room.close()
    assert not timers.waiting


async def test_an_answer_that_begins_brings_the_heartbeat_forward(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The pending one has the pace of a silent conversation."""
    tail, timers = QuietTail(), Timers()
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", timers.call_later)
    room = Room(cast("Tail", tail), HeartbeatPace(5.0, 25.0))
    assert [delay for delay, _ in timers.waiting] == [25.0]
    tail.running = True
    tail.wake()
    assert [delay for delay, _ in timers.waiting] == [5.0]
    room.close()


async def test_a_room_survives_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed read is repeated, and the next heartbeat is scheduled."""
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.0)
    tail, timers = QuietTail(), Timers()
    looks = [RuntimeError("a bug"), ValueError("another")]

    async def refresh() -> Page:
        if looks:
            raise looks.pop(0)
        return Page("e", 1, 0, None)

    tail.refresh = refresh  # type: ignore[method-assign]
    monkeypatch.setattr(asyncio.get_running_loop(), "call_later", timers.call_later)
    room = Room(cast("Tail", tail), HeartbeatPace(5.0, 25.0))
    timers.fire()
    while not timers.waiting:
        await asyncio.sleep(0)
    assert not looks
    room.close()
