"""The scripted model that asks for tools: two rounds of parallel calls within one text.

A third of the text comes before each round. What its requests must hold follows from that: exactly
these thirds, and for each call one result, which never changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.script import Script

ROUNDS = (("note", "send", "pay"), ("send", "note"))
"""The tools that each round calls (`tests/chaos/tools.py`)."""
Message = Mapping[str, Any]


class WrongRequest(Exception):
    """No correct worker sends this."""


@dataclass
class Rounds:
    """What the model got so far."""

    results: dict[tuple[int, int], str] = field(default_factory=dict)
    """Number of the text, number of the call -> its result."""

    def next(self, script: Script, after: Sequence[Message]) -> tuple[list[str], Sequence[str]]:
        """The pieces of the next turn, and the tools that it calls. `after`: the messages behind
        the question. Raises WrongRequest.
        """
        turns = [message for message in after if message["role"] == "assistant"]
        if len(turns) > len(ROUNDS):
            raise WrongRequest(f"{len(turns)} turns")
        for number, turn in enumerate(turns):
            names = [call["function"]["name"] for call in turn.get("tool_calls") or ()]
            if (turn["content"], names) != ("".join(_third(script, number)), [*ROUNDS[number]]):
                raise WrongRequest(f"turn {number} is not what was written: {names}")
        self._remember(script.number, [message for message in after if message["role"] == "tool"])
        asked = sum(map(len, ROUNDS[: len(turns)]))
        if asked != sum(message["role"] == "tool" for message in after):
            raise WrongRequest(f"not {asked} results")
        return _third(script, len(turns)), (*ROUNDS, ())[len(turns)]

    def _remember(self, text: int, results: Sequence[Message]) -> None:
        for number, message in enumerate(results):
            found = self.results.setdefault((text, number), message["content"])
            if found != message["content"]:
                raise WrongRequest(f"call {number}: {message['content']} after {found}")


def _third(script: Script, number: int) -> list[str]:
    size = len(script.pieces) // 3
    end = None if number == len(ROUNDS) else size * (number + 1)
    return list(script.pieces[size * number : end])
