"""worker.repeats: what a lost end of the log took with it is announced again, once and once more."""

import pytest

from streams.memory import MemoryLog
from worker import repeats
from worker.repeats import LATELY_MS, Repeats


class Store:
    def __init__(self) -> None:
        self.asked: list[int] = []

    async def announce_again(self, newer_than_ms: int) -> None:
        self.asked.append(newer_than_ms)


async def test_another_server_is_noticed_once_and_seen_to_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the second time another leader would begin anew; afterwards nothing is asked for."""
    log, store = MemoryLog(), Store()
    looks = Repeats(store, log)  # type: ignore[arg-type]  # all of a store that it uses
    for _ in range(3):
        await looks.look()
    assert store.asked == [LATELY_MS]
    monkeypatch.setattr(repeats, "LATE_SECONDS", -1.0)
    for _ in range(3):
        await looks.look()
    assert len(store.asked) == 2
    assert await log.new_server() is None
    log.restart()
    await looks.look()
    assert len(store.asked) == 3
    await Repeats(store, log).look()  # type: ignore[arg-type]  # another leader
    assert len(store.asked) == 4
