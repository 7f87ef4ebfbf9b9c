"""worker.sweeper: runs that nobody wants are ended once each, whatever their provider does, and
less and less often where it refuses.
"""

import asyncio
from typing import cast

import pytest

from tokenwire.models.runs import RunToEnd
from tokenwire.models.store import Store
from tokenwire.providers.base import Provider
from tokenwire.worker.sweeper.run_ender import (
    LONGEST_PAUSE_SECONDS,
    MAX_END_TRIES,
    RunEnder,
    pause_seconds,
)


class Listed:
    """A store that lists one run, as due as ever, until it has ended."""

    def __init__(self) -> None:
        self.tries = 0
        self.ended = False

    async def runs_to_end(self, limit: int, longest_wait_ms: int) -> list[RunToEnd]:
        return [] if self.ended else [RunToEnd("message", "run", "m", self.tries)]

    async def try_to_end(self, run: RunToEnd, again_ms: int | None) -> bool:
        self.tries += 1
        return True

    async def run_ended(self, message_id: str, run_id: str) -> None:
        self.ended = True


class Hanging:
    """A provider that answers when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = asyncio.Event()

    async def end(self, run_id: str) -> None:
        self.asked += 1
        await self.answers.wait()


def run_ender_of(store: Listed, provider: Hanging) -> RunEnder:
    return RunEnder(cast("Store", store), lambda _model: cast("Provider", provider))


async def test_a_provider_that_does_not_answer_is_not_asked_again_meanwhile() -> None:
    """However often the run is due: a second call would take the place of another run."""
    store, provider = Listed(), Hanging()
    run_ender = run_ender_of(store, provider)
    for _ in range(5):
        await run_ender.carry_out()
        await asyncio.sleep(0)
    assert (provider.asked, store.tries) == (1, 1)
    provider.answers.set()
    await run_ender.settled()
    assert store.ended


async def test_a_bug_in_an_adapter_is_a_try_that_failed() -> None:
    """After the last one operators are told of it, as they are of a provider that refuses."""

    class Faulty(Hanging):
        async def end(self, run_id: str) -> None:
            raise RuntimeError("not thought of")

    told: list[tuple[type[BaseException], object]] = []
    store = Listed()
    store.tries = MAX_END_TRIES - 2
    provider = cast("Provider", Faulty())
    run_ender = RunEnder(
        cast("Store", store),
        lambda _model: provider,
        lambda error, facts: told.append((type(error), facts["bug"])),
    )
    for expected in ([], [(RuntimeError, True)]):
        await run_ender.carry_out()
        await run_ender.settled()
        assert told == expected
    assert not store.ended


@pytest.mark.parametrize(
    ("tries", "seconds"), [(0, 2.0), (1, 4.0), (2, 8.0), (7, 256.0), (8, LONGEST_PAUSE_SECONDS)]
)
def test_pauses_double_up_to_the_longest(tries: int, seconds: float) -> None:
    """Ten tries reach over a long outage of a provider."""
    assert pause_seconds(tries) == seconds
