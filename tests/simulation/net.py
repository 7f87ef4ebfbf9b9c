"""The network between processes and services: calls are late, lost, refused, or executed without a
reply.

A call is a function that a service runs in one step (both Redis and a transaction are atomic). The
network delays it on its way there and back.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from tests.simulation.loop import Node, VirtualLoop
from tests.simulation.trace import Trace

GIVE_UP_SECONDS = 5.0
"""How long a client waits for an answer that does not come."""


class Fate(Enum):
    """What becomes of a call."""

    FINE = auto()
    LOST = auto()
    """It never arrives; the connection breaks."""
    UNANSWERED = auto()
    """It is carried out, and the connection breaks before the answer."""
    LATE = auto()
    """The connection breaks, and what was on its way is carried out some time after."""


class NoAnswer(Exception):
    """The connection broke or the service refused: nobody knows whether the call was executed."""


@dataclass(slots=True)
class Weather:
    """The probability of each fault of a call, and the network's maximum delay (seconds, one
    way).
    """

    lost: float = 0.0
    unanswered: float = 0.0
    late: float = 0.0
    slowest: float = 0.002
    spike: float = 0.0


class Service:
    """Redis, or the database."""

    def __init__(self, name: str, *, ordered: bool) -> None:
        self.name = name
        self.ordered = ordered
        """Calls of one process arrive in order: it has one connection."""
        self.up = True
        self.paused = False
        self.held: list[Callable[[], None]] = []
        self.locked_until = 0.0
        """A write whose COMMIT is late holds its locks: other writes wait, reads do not."""
        self.weather = Weather()


class Net:
    """All connections. `trace` hears of every call."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, trace: Trace) -> None:
        self._loop = loop
        self._rng = rng
        self._trace = trace
        self._last: dict[tuple[str, str], float] = {}
        self._cut: set[tuple[str, str]] = set()
        self.on_done: Callable[[Node, str], None] = lambda _node, _what: None
        """Is given each call that was carried out, and its process."""

    def cut(self, node: Node, service: Service) -> None:
        """From now on nothing passes between the two, in either direction."""
        self._cut.add((node.name, service.name))

    def mend(self, node: Node, service: Service) -> None:
        """End of `cut`."""
        self._cut.discard((node.name, service.name))

    def is_cut(self, node: Node, service: Service) -> bool:
        """Whether nothing passes."""
        return (node.name, service.name) in self._cut

    async def call(
        self,
        node: Node,
        service: Service,
        what: str,
        act: Callable[[], Any],
        *,
        writes: bool = False,
    ) -> Any:
        """Have `service` do `act`; gives its result or raises what it raised. Raises NoAnswer."""
        future: asyncio.Future[Any] = self._loop.create_future()
        fate = self._fate(service)
        if self.is_cut(node, service) or fate in (Fate.LOST, Fate.LATE):
            self._later(
                self._patience(node, service), self._fail, future, node, f"{what}: no answer"
            )
        if not self.is_cut(node, service) and fate is not Fate.LOST:
            self._later_in_order(
                node, service, fate, writes, self._arrive, node, service, what, act, future, fate
            )
        return await future

    def _fate(self, service: Service) -> Fate:
        weather = service.weather
        chance = self._rng.random()
        for fate, share in (
            (Fate.LOST, weather.lost),
            (Fate.UNANSWERED, weather.unanswered),
            (Fate.LATE, weather.late),
        ):
            if chance < share:
                return fate
            chance -= share
        return Fate.FINE

    def _patience(self, node: Node, service: Service) -> float:
        # A broken connection is noticed at once, a silent one only by a timeout.
        return GIVE_UP_SECONDS if self.is_cut(node, service) else self._rng.uniform(0.001, 0.3)

    def _delay(self, service: Service) -> float:
        weather = service.weather
        if weather.spike and self._rng.random() < weather.spike:
            return self._rng.uniform(0.0, 0.5)
        return self._rng.uniform(0.0001, weather.slowest)

    def _later_in_order(
        self,
        node: Node,
        service: Service,
        fate: Fate,
        writes: bool,
        callback: Callable[..., None],
        *args: Any,
    ) -> None:
        at = self._loop.time() + self._delay(service)
        if fate is Fate.LATE:
            at += 0.3 + self._rng.expovariate(1.0)
        if writes:
            at = max(at, service.locked_until + 1e-6)
            service.locked_until = at if fate is Fate.LATE else service.locked_until
        if service.ordered and fate is not Fate.LATE:
            key = (node.name, service.name)
            at = self._last[key] = max(at, self._last.get(key, 0.0) + 1e-6)
        self._loop.call_at(at, callback, *args, context=self._loop.world.context)

    def _later(self, seconds: float, callback: Callable[..., None], *args: Any) -> None:
        self._loop.call_later(seconds, callback, *args, context=self._loop.world.context)

    def _arrive(
        self,
        node: Node,
        service: Service,
        what: str,
        act: Callable[[], Any],
        future: Any,
        fate: Fate,
    ) -> None:
        if service.paused:
            service.held.append(lambda: self._arrive(node, service, what, act, future, fate))
            self._later(GIVE_UP_SECONDS, self._fail, future, node, f"{what}: timed out")
            return
        if not service.up:
            self._later(0.001, self._fail, future, node, f"{what}: refused")
            return
        try:
            result, error = act(), None
        except Exception as raised:  # noqa: BLE001 - whatever the service answers travels back
            result, error = None, raised
        outcome = type(error).__name__ if error is not None else "ok"
        self._trace.add(
            node.name, f"{what} -> {outcome}{'' if fate is Fate.FINE else ' ' + fate.name}"
        )
        self.on_done(node, what)
        if fate is Fate.UNANSWERED or self.is_cut(node, service):
            self._later(
                self._patience(node, service), self._fail, future, node, f"{what}: answer lost"
            )
        elif fate is Fate.FINE:
            self._later(self._delay(service), _settle, future, result, error)

    def _fail(self, future: Any, node: Node, why: str) -> None:
        if not future.done():
            self._trace.add(node.name, why)
            future.set_exception(NoAnswer(why))


def _settle(future: Any, result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The outcome of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("it waited")
