"""worker.sweeper.repeats: what a lost end of the log took with it is announced again, once and once
more.
"""

from collections.abc import Sequence

import pytest

from tokenwire.models.sweeps import Kind, SweepKey
from tokenwire.streams.log.memory import MemoryLog
from tokenwire.worker.sweeper import repeats
from tokenwire.worker.sweeper.repeats import LATELY_MS, LONGEST_MS, REPEAT_PAGE, Repeats

NOW_MS = 1_800_000_000_000


class Store:
    """Rows of one kind; some of them are locked."""

    def __init__(self, rows: int = 0) -> None:
        self.rows = [SweepKey(0, f"{number:04}") for number in range(rows)]
        self.begun: list[int] = []
        self.asked: list[str] = []
        self.locked: set[str] = set()

    async def now_ms(self) -> int:
        return NOW_MS

    async def changed_lately(
        self, kind: Kind, since_ms: int, after: SweepKey | None, limit: int
    ) -> list[SweepKey]:
        if kind != "rows":
            return []
        if after is None:
            self.begun.append(since_ms)
        return [place for place in self.rows if after is None or place > after][:limit]

    async def announce_again(self, kind: Kind, ids: Sequence[str]) -> list[str]:
        assert len(ids) <= REPEAT_PAGE
        self.asked += ids
        return [name for name in ids if name in self.locked]


async def go_on() -> None:
    """Still the active sweeper."""


async def test_another_server_is_noticed_once_and_seen_to_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until the second time another leader would begin anew; afterwards nothing is asked for."""
    log, store = MemoryLog(), Store()
    looks = Repeats(store, log)  # type: ignore[arg-type]  # all of a store that it uses
    for _ in range(3):
        await looks.check_server(go_on)
    assert store.begun == [NOW_MS - LATELY_MS]
    monkeypatch.setattr(repeats, "LATE_SECONDS", -1.0)
    for _ in range(3):
        await looks.check_server(go_on)
    assert len(store.begun) == 2
    assert await log.new_server() is None
    log.restart()
    await looks.check_server(go_on)
    assert len(store.begun) == 3
    await Repeats(store, log).check_server(go_on)  # type: ignore[arg-type]  # another leader
    assert len(store.begun) == 4


async def test_lately_is_some_minutes() -> None:
    """A failover may take as long, and with it everything that was told of meanwhile."""
    store = Store()
    await Repeats(store, MemoryLog()).check_server(go_on)  # type: ignore[arg-type]
    assert store.begun[0] <= NOW_MS - 10 * 60 * 1000


async def test_very_many_rows_go_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is a transaction of its own, before which the leadership is renewed."""
    store, renewed = Store(3 * REPEAT_PAGE + 1), 0

    async def renew() -> None:
        nonlocal renewed
        renewed += 1

    await Repeats(store, MemoryLog()).check_server(renew)  # type: ignore[arg-type]
    assert store.asked == [place.id for place in store.rows]
    assert renewed == 4


async def test_a_row_that_is_locked_keeps_no_other_one_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is asked for again by itself, and the server is noted only when it was told, too."""
    monkeypatch.setattr(repeats, "LATE_SECONDS", -1.0)
    log, store = MemoryLog(), Store(3)
    looks = Repeats(store, log)  # type: ignore[arg-type]
    store.locked = {"0001"}
    for _ in range(3):
        await looks.check_server(go_on)
    assert store.asked == ["0000", "0001", "0002"] * 2 + ["0001"] * 2
    assert await log.new_server() is not None
    store.locked.clear()
    await looks.check_server(go_on)
    assert await log.new_server() is None


@pytest.mark.parametrize(
    ("behind_ms", "since"),
    [(0, LATELY_MS), (3 * 3_600_000, 3 * 3_600_000 + LATELY_MS), (90 * 3_600_000, LONGEST_MS)],
)
async def test_a_server_that_was_left_far_behind_lacks_more(behind_ms: int, since: int) -> None:
    """A replica that had lagged for hours, an old snapshot: what it knows of the time says since
    when it may lack announcements.
    """
    log, store = MemoryLog(), Store()
    await log.note_time(NOW_MS - behind_ms)
    await Repeats(store, log).check_server(go_on)  # type: ignore[arg-type]
    assert store.begun == [NOW_MS - since]


async def test_a_time_from_ahead_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock was set back since."""
    log, store = MemoryLog(), Store()
    await log.note_time(NOW_MS + 3_600_000)
    await Repeats(store, log).check_server(go_on)  # type: ignore[arg-type]
    assert store.begun == [NOW_MS - LATELY_MS]


async def test_the_server_is_given_the_time_once_all_was_seen_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not before: another leader that begins anew must know how far back the loss reaches. Then
    once a minute.
    """
    log, store = MemoryLog(), Store()
    looks = Repeats(store, log)  # type: ignore[arg-type]
    await looks.check_server(go_on)
    assert await log.noted_time() is None
    monkeypatch.setattr(repeats, "LATE_SECONDS", -1.0)
    for _ in range(3):
        await looks.check_server(go_on)
    assert await log.noted_time() == NOW_MS
    await log.note_time(1)
    await looks.check_server(go_on)
    assert await log.noted_time() == 1
    monkeypatch.setattr(repeats, "NOTE_SECONDS", -1.0)
    await looks.check_server(go_on)
    assert await log.noted_time() == NOW_MS
