"""Providers of a simulation: each answer is known beforehand, so that a repetition or hole shows at
once.

A question (`q1`, `q2`, ...) has one answer (`author.py`). A model that can continue sends the rest
of its text, perhaps after another thought, or begins anew and says so. Another one begins with a
text that names the call, so that two beginnings differ. A paused turn goes on when it is sent back
as it was; who goes on with text behind the pause gets its words alone. The script chooses how a
call ends (whole, cut, stalled, refused).
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.simulation import author
from tests.simulation.author import Said, shown, words_of
from tests.simulation.loop import Node, owner
from tokenwire.providers import base
from tokenwire.providers.collected import Collected
from tokenwire.providers.spec import Rung

RUNGS: tuple[Rung, ...] = ("attach", "prefix", "turn", "restart", "none")
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

    calls_tools = False
    """Whether it is a turn of an answer with tools (`rounds.py`)."""

    def __init__(self, name: str, rung: Rung, rng: random.Random, mood: Mood) -> None:
        self.name, self.rung, self.rng, self.mood = name, rung, rng, mood
        self.parted = rng.random() < author.WITH_PARTS
        """Whether it is made of parts of all kinds."""
        self.said = author.Author(name, rng).write() if self.parted else author.plain(rng)
        self.text = shown(words_of(self.said))
        self.asked: set[str] = set()
        """How it was asked for: fresh, resume, or a rung."""
        self.added: list[Said] = []
        """What was thought again by who was asked to go on."""
        self.calls = 0
        self.failures = 0
        self.runs: dict[str, list[list[base.Delta]]] = {}
        """Runs that can be attached to again, each with all that it says."""
        self.running: set[str] = set()
        """Runs that go on: begun, and neither read to their end nor ended."""
        self.held: list[Node] = []
        """The processes that opened a connection for this answer and have not closed it."""

    @property
    def open(self) -> list[Node]:
        """Those of them that live: with a process its connections end."""
        return [node for node in self.held if node.alive]

    @property
    def can_continue(self) -> bool:
        """Whether nothing of it ever needs to be withdrawn."""
        return author.is_plain(self.said) and self.rung in ("attach", "prefix", "turn")

    @property
    def continued(self) -> bool:
        """Whether some call went on with the text of another one."""
        return bool(self.asked & {"prefix", "turn"})

    @property
    def gave(self) -> list[Said]:
        """All that it may have been given of the script, in no order."""
        return [*self.said, *self.added]

    def turn_for(self, _request: base.Request, _complain: Callable[[str], None]) -> "Script":
        """What a request asks for."""
        return self

    def hear(self, *_: Any) -> None:
        """Nobody steers it."""

    def beginning(self, call: int) -> list[Said]:
        """What a call that begins anew says."""
        return author.prefixed(self.said, f"[{call}] ") if self.rung == "restart" else self.said

    def beginnings(self) -> list[list[Said]]:
        """What any call so far has said, or would have."""
        return [self.beginning(call) for call in range(1, self.calls + 1)]


class Provider:
    """`providers.base.Provider` for all questions; `complain` receives requests that should not
    have been made.
    """

    stall_seconds = 3.0

    def __init__(
        self,
        rung: Rung,
        scripts: dict[str, Script],
        complain: Callable[[str], None],
        is_answered: Callable[[str], bool] = lambda _question: True,
    ) -> None:
        self.continuation = rung
        self._is_answered = is_answered
        self._scripts = scripts
        self._complain = complain

    async def end(self, run_id: str) -> None:
        """End a run, so that it costs nothing any more."""
        await asyncio.sleep(0.01)
        for script in self._scripts.values():
            script.running.discard(run_id)

    def stream(self, request: base.Request) -> "_Stream":
        """Open a stream of deltas that answers the request."""
        if any(not message.parts for message in request.messages):
            self._complain("an empty message was sent to the provider")
        self._check_kept(request.messages)
        questions = [m.text for m in request.messages if m.role == "user"]
        if len(questions) != len(set(questions)):
            self._complain(f"a message was sent twice: {questions}")
        question = next(filter(self._is_answered, reversed(questions)), None)
        if question is None:  # the conversation was deleted while this request was put together
            raise base.InvalidRequest("no question")
        script = self._scripts[question].turn_for(request, self._complain)
        for earlier in filter(self._is_answered, questions):
            self._scripts[earlier].hear(request, self._is_answered, self._complain)
        last = request.messages[-1]
        sent_back = last if last.role == "assistant" and not script.calls_tools else None
        return _Stream(script, request.continuation, sent_back, self._complain)

    def _check_kept(self, messages: Iterable[base.HistoryMessage]) -> None:
        """Values go back as they came, whatever became of them in between."""
        given = {
            kept.value["id"]: kept.value
            for script in self._scripts.values()
            for kept in map(author.kept_in, script.gave)
            if kept is not None
        }
        for kept in (kept for message in messages for kept in _kept_of(message)):
            if given.get(kept.value["id"]) != kept.value:
                self._complain(f"{kept.value} was sent back, it was {given.get(kept.value['id'])}")


def _kept_of(message: base.HistoryMessage) -> list[base.Kept]:
    """All that is kept of a message, in order."""
    found = list[base.Kept]()
    for part in message.parts:
        if isinstance(part, base.Kept):
            found.append(part)
        else:
            kept = getattr(part, "kept", None)
            found += kept if isinstance(kept, tuple) else [kept] if kept is not None else []
    return found


def _words(sent_back: base.HistoryMessage | None) -> str:
    return "" if sent_back is None else sent_back.text


class _Stream:
    stitching = midway = naming = False

    def __init__(
        self,
        script: Script,
        going_on: base.Continuation | None,
        sent_back: base.HistoryMessage | None,
        complain: Callable[[str], None],
    ) -> None:
        self._script, self._complain = script, complain
        script.calls += 1
        script.asked.add(
            going_on.rung if going_on is not None else "fresh" if sent_back is None else "resume"
        )
        self._outcome = _outcome(script)
        self.run_over = self._asked = False
        self.run_id: str | None = None
        self.cursor: int | None = None
        self._attached = going_on is not None and going_on.rung == "attach"
        if going_on is not None and self._attached:
            self._check_text(_words(sent_back) + going_on.text)
            self._attach(going_on)
        else:
            self._batches = _batches(script, self._to_say(going_on, sent_back))
            if script.rung == "attach":
                self.run_id, self.cursor = f"{script.name}-{script.calls}", 0
                script.runs[self.run_id] = list(self._batches)
        self._left = script.rng.randint(0, len(self._batches)) if self._outcome is not None else -1

    def _to_say(
        self, going_on: base.Continuation | None, sent_back: base.HistoryMessage | None
    ) -> list[Said]:
        script = self._script
        if going_on is not None:
            held = _words(sent_back) + going_on.text
            begun = self._check_text(held)
            if not script.parted:
                return author.rest(begun, held, again=script.calls_tools)
            may_begin_anew = sent_back is not None or author.says_where_it_pauses(begun)
            if may_begin_anew and script.rng.random() < 0.1:
                anew = begun if sent_back is None else author.behind_pause(begun)
                return [base.Restart(), *anew]
            said = author.rest(begun, held, again=script.rng.random() < 0.5)
            again = self._think_again()
            return [*again, *(author.without_late_end(said) if again else said)]
        if sent_back is not None:
            return author.behind_pause(self._check_sent_back(sent_back))
        return script.beginning(script.calls)

    def _check_text(self, text: str) -> list[Said]:
        """What readers hold is the beginning of what some call has said: which that is."""
        script = self._script
        for said in script.beginnings():
            if shown(words_of(said)).startswith(text):
                return said
        self._complain(f"{script.name}: asked to go on from {text!r}, which is no beginning")
        return script.beginning(script.calls)

    def _think_again(self) -> list[Said]:
        """A model that is asked to go on may think first."""
        script = self._script
        if script.rng.random() < 0.5:
            return []
        words = f"again {script.calls}: {author.thought(script.rng)}"
        kept = base.Kept("demo", "thinking", {"id": f"{script.name} again {script.calls}"})
        said: list[Said] = [base.ReasoningDelta(words), base.ReasoningEnd(kept)]
        script.added += said
        return said

    def _check_sent_back(self, turn: base.HistoryMessage) -> list[Said]:
        """A paused turn comes back as it was. Gives the call that has said it."""
        script = self._script
        for said in script.beginnings():
            before = author.up_to_pause(said)
            if shown(words_of(before)) == turn.text and len(before) < len(said):
                collected = Collected()
                for delta in before:
                    if isinstance(delta, base.TextDelta):
                        delta = base.TextDelta(shown(delta.text))
                    collected.add(delta)  # type: ignore[arg-type]
                if not script.continued and tuple(collected.parts) != tuple(turn.parts):
                    self._complain(
                        f"{script.name}: {turn.parts} was sent back, paused was {collected.parts}"
                    )
                return said
        self._complain(f"{script.name}: {turn.parts} was sent back, which no call has said")
        return script.said

    def _attach(self, going_on: base.Continuation) -> None:
        self.run_id, self.cursor = going_on.run_id, going_on.cursor or 0
        self._batches = self._script.runs[going_on.run_id or ""][self.cursor :]
        if self._script.rng.random() < 0.15:  # the provider keeps runs for a while only
            self._batches, self._outcome = [], base.Interrupted("no such run", code="run_gone")

    async def __aenter__(self) -> Self:
        await asyncio.sleep(self._script.rng.uniform(0.001, 0.1))
        self._node = owner()
        self._script.held.append(self._node)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._script.held.remove(self._node)

    def keep_run(self) -> None:
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


def _batches(script: Script, said: Sequence[Said]) -> list[list[base.Delta]]:
    rng = script.rng
    to_say = author.up_to_pause(said)
    finish = base.Finish("stop" if len(to_say) == len(said) else "paused")
    if script.calls_tools and rng.random() < 0.5:
        calls = any(isinstance(delta, base.ToolCallStart) for delta in said)
        finish = base.Finish("tool_calls" if calls else "stop")
    batches: list[list[base.Delta]] = [[base.RunStarted("run", script.rung)]]
    for delta in to_say:
        pieces: list[list[base.Delta]] = [[piece] for piece in author.in_pieces(delta, rng)]
        if isinstance(delta, base.ReasoningEnd):
            batches[-1] += [piece for pair in pieces for piece in pair]
        else:
            batches += pieces
    batches.append([base.UsageDelta(3, len(words_of(to_say))), finish])
    while len(batches) > 2 and rng.random() < 0.5:  # one network read may bring several pieces
        index = rng.randrange(len(batches) - 1)
        batches[index : index + 2] = [batches[index] + batches[index + 1]]
    return batches


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
