"""Providers of a simulation: each answer is known beforehand, so that a repetition or hole shows at
once.

A question (`q1`, `q2`, ...) has one answer. A model that can continue sends exactly the missing
rest; another begins with a text that names the call, so that two beginnings differ. The script
chooses how a call ends (whole, cut, stalled, refused).
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.simulation.loop import Node, owner
from tokenwire.providers import base
from tokenwire.providers.spec import Rung

RUNGS: tuple[Rung, ...] = ("attach", "prefix", "turn", "restart", "none")
_WORDS = (
    "one ",
    "two\n",
    "drei ",
    "qu\u00e4tre ",
    "\U0001f600",
    "\u4e94",
    "six",
    "\u0000",
    " ",
    "seven eight nine ",
    "\U0001f468\u200d\U0001f469",
)
MAX_FAILURES = 5
"""Failures of one answer; after them it is given whole, so that a schedule ends."""


@dataclass(slots=True)
class Mood:
    """The share of calls that fail, and seconds between two pieces at most."""

    failing: float = 0.2
    slowest: float = 0.08
    hanging: float = 0.1


class Script:
    """One question's answer, and what was asked of it."""

    def __init__(self, name: str, rung: Rung, rng: random.Random, mood: Mood) -> None:
        self.name, self.rung, self.rng, self.mood = name, rung, rng, mood
        self.raw = "".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 24)))
        self.text = self.raw.replace("\x00", "\ufffd")
        self.reasoning = (
            "".join(rng.choice(("hm ", "so ", "\U0001f914")) for _ in range(rng.randint(1, 6)))
            if rng.random() < 0.2
            else ""
        )
        self.calls = 0
        self.failures = 0
        self.runs: dict[str, list[list[base.Delta]]] = {}
        """Runs that can be attached to again, each with all that it says."""
        self.running: set[str] = set()
        """Runs that go on: begun, and neither read to their end nor ended."""
        self.open: list[Node] = []
        """The processes that hold a connection for this answer."""

    def beginning(self, call: int) -> str:
        """What a call that begins anew answers, as it may be shown."""
        return f"[{call}] {self.text}" if self.rung == "restart" else self.text

    def endings(self) -> list[str]:
        """Every whole answer that there can be."""
        return [self.beginning(call) for call in range(1, self.calls + 1)]


class Provider:
    """`providers.base.Provider` for all questions; `complain` receives requests that should not
    have been made.
    """

    stall_seconds = 3.0

    def __init__(
        self, rung: Rung, scripts: dict[str, Script], complain: Callable[[str], None]
    ) -> None:
        self.continuation = rung
        self._scripts = scripts
        self._complain = complain

    async def end(self, run_id: str) -> None:
        """See providers.base.Provider."""
        await asyncio.sleep(0.01)
        for script in self._scripts.values():
            script.running.discard(run_id)

    def stream(self, request: base.Request) -> "_Stream":
        """See providers.base.Provider."""
        if any(not message.text for message in request.messages):
            self._complain("an empty message was sent to the provider")
        question = next((m.text for m in reversed(request.messages) if m.role == "user"), None)
        if question is None:  # the conversation was deleted while this request was put together
            raise base.InvalidRequest("no question")
        script = self._scripts[question]
        return _Stream(script, request.continuation, self._complain)


class _Stream:
    stitching = naming = False

    def __init__(
        self, script: Script, going_on: base.Continuation | None, complain: Callable[[str], None]
    ) -> None:
        self._script = script
        script.calls += 1
        text = script.beginning(script.calls)
        if going_on is not None:
            if not text.startswith(going_on.text):
                complain(
                    f"{script.name}: asked to go on from {going_on.text!r}, which is no "
                    f"beginning of {text!r}"
                )
            text = text[len(going_on.text) :]
        self._outcome = _outcome(script)
        self.run_over = self._asked = False
        self.run_id: str | None = None
        self.cursor: int | None = None
        self._attached = going_on is not None and going_on.rung == "attach"
        if going_on is not None and self._attached:
            self._attach(going_on)
        else:
            self._batches = _batches(script, text, fresh=going_on is None)
            if script.rung == "attach":
                self.run_id, self.cursor = f"{script.name}-{script.calls}", 0
                script.runs[self.run_id] = list(self._batches)
        self._left = script.rng.randint(0, len(self._batches)) if self._outcome is not None else -1

    def _attach(self, going_on: base.Continuation) -> None:
        self.run_id, self.cursor = going_on.run_id, going_on.cursor or 0
        self._batches = self._script.runs[going_on.run_id or ""][self.cursor :]
        if self._script.rng.random() < 0.15:  # the provider keeps runs for a while only
            self._batches, self._outcome = [], base.Interrupted("no such run", code="run_gone")

    async def __aenter__(self) -> Self:
        await asyncio.sleep(self._script.rng.uniform(0.001, 0.1))
        self._node = owner()
        self._script.open.append(self._node)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._script.open.remove(self._node)

    def keep(self) -> None:
        """A run goes on for all that it is left."""

    def __aiter__(self) -> "_Stream":
        return self

    async def __anext__(self) -> Sequence[base.Delta]:
        if self.run_id is not None and not self._attached and not self._asked:
            self._script.running.add(self.run_id)  # its name was known before it was asked for
        self._asked = True
        if self._left == 0:
            await self._fail()
        if not self._batches:
            raise StopAsyncIteration
        self._left -= 1
        self.cursor = None if self.cursor is None else self.cursor + 1
        script = self._script
        slow = (
            script.rng.uniform(0.5, 2.5)
            if script.rng.random() < 0.02
            else script.rng.uniform(0.0, script.mood.slowest)
        )
        await asyncio.sleep(slow)
        batch = self._batches.pop(0)
        if self.run_id is not None and not self._batches:
            self.run_over = True
            script.running.discard(self.run_id)
        return batch

    async def _fail(self) -> None:
        if self._outcome == "hang":
            await asyncio.sleep(3600)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        raise StopAsyncIteration


def _batches(script: Script, text: str, *, fresh: bool) -> list[list[base.Delta]]:
    rng = script.rng
    batches: list[list[base.Delta]] = [[base.RunStarted("run", script.rung)]]
    if fresh and script.reasoning:
        batches += [[base.ReasoningDelta(piece)] for piece in _pieces(script.reasoning, rng)]
    batches += [[base.TextDelta(piece)] for piece in _pieces(text.replace("\ufffd", "\x00"), rng)]
    batches.append([base.UsageDelta(3, len(text)), base.Finish("stop")])
    while len(batches) > 2 and rng.random() < 0.5:  # one network read may bring several pieces
        index = rng.randrange(len(batches) - 1)
        batches[index : index + 2] = [batches[index] + batches[index + 1]]
    return batches


def _pieces(text: str, rng: random.Random) -> list[str]:
    # Characters beyond the BMP may arrive in halves, as some providers send them.
    halves = "".join(_halves(c) if rng.random() < 0.5 else c for c in text)
    pieces = []
    while halves:
        size = rng.randint(1, 9)
        pieces.append(halves[:size])
        halves = halves[size:]
    return pieces


def _halves(character: str) -> str:
    if ord(character) < 0x10000:
        return character
    data = character.encode("utf-16-le")
    return "".join(chr(int.from_bytes(data[i : i + 2], "little")) for i in (0, 2))


def _outcome(script: Script) -> Any:
    """None: the whole answer. Otherwise an exception, "hang", or "end" (closed without a proof of
    completion).
    """
    rng, mood = script.rng, script.mood
    if script.failures >= MAX_FAILURES or rng.random() >= mood.failing:
        return None
    script.failures += 1
    if rng.random() < mood.hanging:
        return "hang"
    errors: list[Any] = [
        base.Interrupted("cut"),
        base.Interrupted("cut"),
        base.Unavailable("503"),
        base.RateLimited("429", retry_after_s=rng.choice((None, 0.2, 4.0))),
        "end",
    ]
    if rng.random() < 0.1:
        errors = [
            base.AuthenticationFailed("401"),
            base.ContentFiltered("no"),
            ZeroDivisionError("a bug in an adapter"),
        ]
    return rng.choice(errors)
