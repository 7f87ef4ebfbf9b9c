"""A worker that dies after a number of effects on its log, its database and its provider.

`Life` counts them. What a dead worker calls never returns and changes nothing, until `kill`, which
ends it: then its cleaning up has no effect either.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

EFFECTS = frozenset(
    {
        *("claim", "append", "adopt", "rejoin", "release"),
        *("begin_attempt", "begin_run", "save_file", "checkpoint", "finish"),
        *("schedule_retry", "run_ended", "terminal_announced"),
        *("prove_turn", "claim_call", "finish_call", "lose_calls", "park"),
    }
)
"""Of a log and a database: what changes something there that others see."""


class Life:
    """`left`: how many effects the worker still has (None: it does not die)."""

    def __init__(self, left: int | None = None) -> None:
        self.left = left
        self.done: list[str] = []
        self.dead = asyncio.Event()
        self._killed = asyncio.Event()

    async def breathe(self) -> None:
        """Before the worker does something."""
        if self.dead.is_set():
            await self._killed.wait()
            raise asyncio.CancelledError

    async def spend(self, name: str) -> None:
        """The worker has done something; it does not learn of the last one."""
        self.done.append(name)
        if self.left is not None and len(self.done) >= self.left:
            self.dead.set()
        await self.breathe()

    def kill(self) -> None:
        """Nothing of the worker waits any more."""
        self.dead.set()
        self._killed.set()


class Mortal:
    """`real` in the hands of a worker with this life."""

    def __init__(self, real: Any, life: Life) -> None:
        self._real, self._life = real, life

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if not inspect.iscoroutinefunction(value):
            return value

        async def call(*args: Any, **named: Any) -> Any:
            await self._life.breathe()
            found = await value(*args, **named)
            if name in EFFECTS:
                await self._life.spend(name)
            return found

        return call


class Player(Protocol):
    """A provider."""

    def answer(self, method: str, url: str, body: bytes | None) -> Sequence[bytes]:
        """The frames of the answer to a request."""
        ...


class PlayingClient:
    """`providers.http.HttpClient` of a worker; `player` answers.

    A frame comes once everything that came before has been taken (`settled`).
    """

    def __init__(self, player: Player, life: Life, settled: Callable[[], Awaitable[None]]) -> None:
        self._player, self._life, self._settled = player, life, settled

    @asynccontextmanager
    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator["_Reply"]:
        """A request, which is an effect, too."""
        await self._life.breathe()
        frames = self._player.answer(method, url, body)
        await self._life.spend(method)
        yield _Reply(frames, self._life, self._settled)


class _Reply:
    status = 200
    headers: Mapping[str, str] = {"content-type": "text/event-stream"}

    def __init__(
        self, frames: Sequence[bytes], life: Life, settled: Callable[[], Awaitable[None]]
    ) -> None:
        self._frames, self._life, self._settled = frames, life, settled

    async def chunks(self) -> AsyncIterator[bytes]:
        for data in self._frames:
            await self._life.breathe()
            yield data
            await self._settled()
