"""The scripted model that asks for tools: rounds of parallel calls within one text.

An equal share of the text comes before each round, and the rest at the end. What its requests must
hold follows from that: exactly these shares, for each call one result, which never changes, and
what people wrote meanwhile (remarks), always at the same place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.script import Script, asked_for

ROUNDS = (("note", "send", "pay"), ("send", "note"))
"""The tools that each round calls (`tests/chaos/tools.py`)."""
DENSE = (("note", "pay"), ("ring", "send"), ("pick", "fetch"), ("pay", "order"))
"""The same of the model `rounds`, which begins with any of them (`tests/chaos/service.py`)."""
REMARKS = 50_000
"""Texts with these numbers, and the seed in front, are asked for while another one is written."""
Message = Mapping[str, Any]
Round = Sequence[str]


class WrongRequest(Exception):
    """No correct worker sends this."""


def is_remark(number: int) -> bool:
    """Whether the text was asked for while another one was written."""
    return number % 100_000 >= REMARKS


def rounds_of(model: str, number: int) -> Sequence[Round]:
    """The rounds of a text."""
    if model != "rounds":
        return ROUNDS if model == "tools" else ()
    first = number % len(DENSE)
    return () if is_remark(number) else (*DENSE[first:], *DENSE[:first])


def question(roles: Sequence[str], texts: Sequence[str] = (), seed: int | None = None) -> int:
    """The index of the message that is answered: the one that asks for the text `seed`, as the
    answer of a remark says; else the last one of a user that did not come behind the results of a
    round, as those do that steer.

    Without the seed, a remark that is answered behind an answer that failed in a round would look
    like one that steers, and the model would ask for the next round.
    """
    for index, text in enumerate(texts):
        if seed is not None and (wanted := asked_for(text)) and wanted.number == seed:
            return index
    found = 0
    for index, role in enumerate(roles):
        steers = roles[index - 1] == "tool" or (roles[index - 1] == "user" and found != index - 1)
        if role == "user" and not (index and steers):
            found = index
    return found


@dataclass
class Rounds:
    """What the model got so far."""

    results: dict[tuple[int, int], str] = field(default_factory=dict)
    """Number of the text, number of the call -> its result."""
    remarks: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Number of a remark -> of the text that took it in, and how many results came before."""

    def next(
        self, script: Script, after: Sequence[Message], rounds: Sequence[Round] = ROUNDS
    ) -> tuple[list[str], Sequence[tuple[str, int]]]:
        """The pieces of the next turn, and the tools that it calls, each with its place. `after`:
        the messages behind the question. Raises WrongRequest.
        """
        turns = [message for message in after if message["role"] == "assistant"]
        if len(turns) > len(rounds):
            raise WrongRequest(f"{len(turns)} turns")
        for number, turn in enumerate(turns):
            names = [call["function"]["name"] for call in turn.get("tool_calls") or ()]
            wanted = "".join(_share(script, number, len(rounds)))
            if (turn["content"], names) != (wanted, [*rounds[number]]):
                raise WrongRequest(f"turn {number} is not what was written: {names}")
        self._remember(script.number, [message for message in after if message["role"] == "tool"])
        asked = sum(map(len, rounds[: len(turns)]))
        if asked != sum(message["role"] == "tool" for message in after):
            raise WrongRequest(f"not {asked} results")
        self._remember_remarks(script.number, after)
        calls = (*rounds, ())[len(turns)]
        places = range(script.number * 100 + asked, script.number * 100 + asked + len(calls))
        return _share(script, len(turns), len(rounds)), list(zip(calls, places, strict=True))

    def _remember(self, text: int, results: Sequence[Message]) -> None:
        for number, message in enumerate(results):
            found = self.results.setdefault((text, number), message["content"])
            if found != message["content"]:
                raise WrongRequest(f"call {number}: {message['content']} after {found}")

    def _remember_remarks(self, text: int, after: Sequence[Message]) -> None:
        there, results = set[int](), 0
        for message in after:
            results += message["role"] == "tool"
            if message["role"] == "user":
                remark = asked_for(message["content"])
                if remark is None or remark.number in there:
                    raise WrongRequest(f"a remark: {message['content']}")
                there.add(remark.number)
                if self.remarks.setdefault(remark.number, (text, results)) != (text, results):
                    raise WrongRequest(f"remark {remark.number} has another place")
        if lost := {remark for remark, (of, _) in self.remarks.items() if of == text} - there:
            raise WrongRequest(f"without remarks {lost}")


def _share(script: Script, number: int, rounds: int) -> list[str]:
    size = len(script.pieces) // (rounds + 1)
    end = None if number == rounds else size * (number + 1)
    return list(script.pieces[size * number : end])
