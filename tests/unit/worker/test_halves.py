"""worker.halves: who is found, and how often the database is asked."""

from collections.abc import Sequence

import pytest

from tokenwire.models.errors import GivenUp, StatementFailed, StoreUnavailable
from tokenwire.worker.halves import by_halves


class Rows:
    """Notes what was done, and fails at some of them."""

    def __init__(self, bad: Sequence[int] = ()) -> None:
        self.bad, self.done, self.refused, self.asked = bad, list[int](), list[int](), 0

    async def work(self, items: Sequence[int]) -> None:
        self.asked += 1
        if any(item in self.bad for item in items):
            raise StatementFailed("code")
        self.done += items

    def refuse(self, item: int, error: Exception) -> None:
        assert isinstance(error, StatementFailed)
        self.refused.append(item)


@pytest.mark.parametrize(
    ("count", "bad"), [(1, []), (1, [0]), (5, [0]), (5, [4]), (8, [2, 3]), (3, [0, 1, 2])]
)
async def test_whom_it_fails_at_is_refused_and_no_other(count: int, bad: list[int]) -> None:
    """In order, each once."""
    rows = Rows(bad)
    await by_halves(range(count), rows.work, rows.refuse)
    assert (rows.refused, rows.done) == (bad, [item for item in range(count) if item not in bad])


@pytest.mark.parametrize(("count", "asked"), [(0, 0), (100, 1)])
async def test_what_works_is_asked_once(count: int, asked: int) -> None:
    """And nothing for nobody."""
    rows = Rows()
    await by_halves(range(count), rows.work, rows.refuse)
    assert rows.asked == asked


@pytest.mark.parametrize("error", [StoreUnavailable("away"), GivenUp("too long")])
async def test_an_outage_is_nobodys_own(error: StoreUnavailable) -> None:
    """It is raised, and not met again for each half."""
    rows, asked = Rows(), 0

    async def work(items: Sequence[int]) -> None:
        nonlocal asked
        asked += 1
        raise error

    with pytest.raises(type(error)):
        await by_halves(range(4), work, rows.refuse)
    assert (asked, rows.refused) == (1, [])
