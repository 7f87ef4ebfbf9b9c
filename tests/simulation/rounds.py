"""A model that calls tools: an answer of several turns, each a script of its own.

Which turn a request asks for follows from the calls that it brings back. A turn of some calls
follows another one until the last, which has text alone.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence

from tests.simulation import author
from tests.simulation.author import Said
from tests.simulation.loop import Node
from tests.simulation.provider import Mood, Script
from tokenwire.providers import base
from tokenwire.providers.history import CallPart, ResultPart
from tokenwire.providers.spec import Rung

NAMES = (*("note", "send", "jot", "pay", "pay", "pick") * 2, *("spend",) * 3, "nothing")
"""The tools that are called, and one that does not exist."""


class Turn(Script):
    """One turn: some text, and calls unless it is the last."""

    calls_tools = True

    def __init__(
        self, name: str, rung: Rung, rng: random.Random, mood: Mood, *, is_last: bool
    ) -> None:
        super().__init__(name, rung, rng, mood)
        self.parted = False
        self.said = [*_words(rng, is_last=is_last), *(() if is_last else _calls(name, rng))]
        self.text = author.shown(author.words_of(self.said))

    @property
    def can_continue(self) -> bool:
        """A call is never continued."""
        return False

    def beginning(self, call: int) -> list[Said]:
        """What a call that begins anew says."""
        return super().beginning(call) if self.text else self.said

    @property
    def call_ids(self) -> list[str]:
        """The ids of its calls, in order."""
        return [delta.id for delta in self.said if isinstance(delta, base.ToolCallStart)]


class Rounds:
    """All turns of one answer. It has the properties of a `Script` that people ask for."""

    can_continue = calls_tools = False
    gave: tuple[Said, ...] = ()

    def __init__(
        self, name: str, rung: Rung, rng: random.Random, mood: Mood, scripts: dict[str, Script]
    ) -> None:
        self.name, self.rung = name, rung
        count = rng.choice((1, 2, 2, 3, 4))
        self.turns = [
            Turn(f"{name} {n}", rung, rng, mood, is_last=n == count - 1) for n in range(count)
        ]
        scripts.update({turn.name: turn for turn in self.turns})
        self.running: set[str] = set()
        self.results: dict[str, tuple[str, bool]] = {}
        """Id of a call -> what the model got for it."""
        self.heard: dict[str, int] = {}
        """Message that steered it -> the round behind whose results the model got it."""

    @property
    def open(self) -> list[Node]:
        """The processes that hold a connection for one of its turns."""
        return [node for turn in self.turns for node in turn.open]

    @property
    def calls(self) -> int:
        """How often any of its turns was asked for."""
        return sum(turn.calls for turn in self.turns)

    def turn_of(self, number: int) -> Turn:
        """The turn behind so many; the last, if the model may not call any more."""
        return self.turns[min(number, len(self.turns) - 1)]

    def turn_for(self, request: base.Request, complain: Callable[[str], None]) -> Turn:
        """The turn that a request asks for. Complains of calls without a result, of results that
        change, and of calls that nobody made.
        """
        sent = [part for m in self._behind_question(request) for part in m.parts]
        ids = [part.id for part in sent if isinstance(part, CallPart)]
        results = [part for part in sent if isinstance(part, ResultPart)]
        done = sum(bool(turn.call_ids) and turn.call_ids[0] in ids for turn in self.turns)
        if ids != [name for turn in self.turns[:done] for name in turn.call_ids]:
            complain(f"{self.name}: the calls {ids} were sent back")
        if ids != [part.call_id for part in results]:
            complain(f"{self.name}: results of {[part.call_id for part in results]} for {ids}")
        for part in results:
            told, before = (part.text, part.error), self.results.get(part.call_id)
            if before not in (None, told):
                complain(f"{part.call_id}: the model got {before}, then {told}")
            self.results[part.call_id] = told
        if request.tool_choice == "none":
            return self.turns[-1]
        if not request.tools:
            complain(f"{self.name}: no tools were offered")
        return self.turns[done]

    def hear(
        self,
        request: base.Request,
        is_answered: Callable[[str], bool],
        complain: Callable[[str], None],
    ) -> None:
        """Note which messages steer it in this request. Complains of one that does not stand
        behind the results of a round, or stood elsewhere before.
        """
        ids, before = list[str](), ""
        for message in self._behind_question(request):
            if message.role == "user" and is_answered(message.text):
                return
            if message.role == "user":
                place = sum(bool(turn.call_ids) and turn.call_ids[0] in ids for turn in self.turns)
                if before != "results" or self.heard.get(message.text, place) != place:
                    complain(
                        f"{self.name}: {message.text} came behind {before} of round {place}, "
                        f"before: {self.heard}"
                    )
                self.heard[message.text] = place
                continue
            ids += [part.id for part in message.parts if isinstance(part, CallPart)]
            has_results = isinstance(message.parts[-1], ResultPart)
            before = "results" if has_results else "text"

    def _behind_question(self, request: base.Request) -> Sequence[base.HistoryMessage]:
        where = [message.text for message in request.messages].index(self.name)
        return request.messages[where + 1 :]


def _words(rng: random.Random, *, is_last: bool) -> Iterator[Said]:
    if rng.random() < 0.2:
        yield base.ReasoningDelta(author.thought(rng))
        yield base.ReasoningEnd()
    if is_last or rng.random() < 0.6:
        yield base.TextDelta(author.text(rng, 8))


def _calls(name: str, rng: random.Random) -> Iterator[Said]:
    """One call or some. A few have an input that does not fit."""
    for index in range(rng.choice((1, 1, 2, 3))):
        n = rng.randint(0, 99)
        text = json.dumps({"n": n})
        yield base.ToolCallStart(index, f"{name} call {index}", rng.choice(NAMES))
        yield base.ToolCallArguments(index, rng.choice((*[text] * 12, '{"n": "x"}', text[:-1])))
        yield base.ToolCallEnd(index)
