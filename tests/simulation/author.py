"""What a model says in a schedule, made from the seed: text alone, or parts of all kinds.

An answer is a list of whole deltas; the provider cuts them on their way (`provider.py`).
Whatever is kept of a part bears a number of its own, so that the judge can tell which one it sees.
"""

import base64
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenwire.providers import base
from tokenwire.providers.base import Kept

WITH_PARTS = 0.4
"""The share of answers that are more than text and some reasoning."""
KEPT_BYTES = 20_000
"""What may be kept of one answer; what `_too_much` gives is more."""
FILE_BYTES = 4_000
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
_THOUGHTS = ("hm ", "so ", "\U0001f914", "what if it were otherwise after all? ")


@dataclass(frozen=True)
class Pause:
    """Here the provider pauses its turn, and waits to be sent it back."""


Said = base.Delta | Pause


def text(rng: random.Random, most: int = 24) -> str:
    """Some words, as they come: with U+0000 among them."""
    return "".join(rng.choice(_WORDS) for _ in range(rng.randint(1, most)))


def thought(rng: random.Random, most: int = 6) -> str:
    """Some reasoning."""
    return "".join(rng.choice(_THOUGHTS) for _ in range(rng.randint(1, most)))


def shown(words: str) -> str:
    """As readers see it."""
    return words.replace("\x00", "\ufffd")


def plain(rng: random.Random) -> list[Said]:
    """Text, now and then behind some reasoning."""
    reasoning = [base.ReasoningDelta(thought(rng))] if rng.random() < 0.2 else []
    return [*reasoning, base.TextDelta(text(rng))]


def is_plain(said: Sequence[Said]) -> bool:
    """Whether it is text and nothing else."""
    return all(isinstance(delta, base.TextDelta) for delta in said)


def words_of(said: Sequence[Said]) -> str:
    """All text, as it comes."""
    return "".join(delta.text for delta in said if isinstance(delta, base.TextDelta))


def up_to_pause(said: Sequence[Said]) -> list[Said]:
    """What is said before the provider pauses; all of it, if it does not."""
    places = [place for place, delta in enumerate(said) if isinstance(delta, Pause)]
    return list(said[: places[0]] if places else said)


def behind_pause(said: Sequence[Said]) -> list[Said]:
    """What is said once the turn has been sent back."""
    return list(said[len(up_to_pause(said)) + 1 :])


def says_where_it_pauses(said: Sequence[Said]) -> bool:
    """Whether a request shows that the model paused: there is text before, or there is no pause."""
    before = up_to_pause(said)
    return bool(words_of(before)) or len(before) == len(said)


def prefixed(said: Sequence[Said], prefix: str) -> list[Said]:
    """The same with a word in front of its first text."""
    first = next(n for n, delta in enumerate(said) if isinstance(delta, base.TextDelta))
    delta = said[first]
    assert isinstance(delta, base.TextDelta)
    return [*said[:first], base.TextDelta(prefix + delta.text), *said[first + 1 :]]


def rest(said: Sequence[Said], held: str, *, again: bool) -> list[Said]:
    """What follows the text `held`. `again`: what follows it at once is said once more."""
    left = len(held)
    for number, delta in enumerate(said):
        if not isinstance(delta, base.TextDelta):
            continue
        if left < len(delta.text):
            return [base.TextDelta(delta.text[left:]), *said[number + 1 :]]
        left -= len(delta.text)
        if left == 0 and again:
            return list(said[number + 1 :])
    return []


def without_late_end(said: Sequence[Said]) -> list[Said]:
    """Without the end of a reasoning that was begun before: who thinks again ends that thought."""
    begun, found = False, list[Said]()
    for delta in said:
        begun = begun or isinstance(delta, base.ReasoningDelta)
        if begun or not isinstance(delta, base.ReasoningEnd):
            found.append(delta)
    return found


def kept_in(delta: Said) -> Kept | None:
    """What goes back to the provider with this delta."""
    return delta if isinstance(delta, Kept) else getattr(delta, "kept", None)


class Author:
    """Writes one answer with parts."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self._name, self._rng = name, rng
        self._said: list[Said] = []
        self._words = ""
        self._open = ""  # the text that still grows, as readers see it
        self._calls = self._count = 0
        self._unended = False  # a reasoning: an end would be its end
        self._thought = ""
        self._too_much = rng.randint(1, 6) if rng.random() < 0.1 else 0

    def write(self) -> list[Said]:
        """All of it: at least one text."""
        blocks: Sequence[Callable[[], Iterator[Said]]] = (
            *(self._text,) * 4,
            *(self._reasoning,) * 3,
            *(self._source,) * 3,
            *(self._item,) * 2,
            *(self._calls_at_once, self._file) * 2,
        )
        for _ in range(self._rng.randint(2, 9)):
            self._add(self._rng.choice(blocks))
        if not self._words:
            self._add(self._text)
        if self._rng.random() < 0.25:
            self._pause()
        return self._said

    def _add(self, block: Callable[[], Iterator[Said]]) -> None:
        self._said.extend(block())

    def _pause(self) -> None:
        """Most turns are paused behind an item that must go back, some behind what cannot."""
        self._add(self._item)
        self._said.append(Pause())
        self._open = ""
        self._add(self._rng.choice((self._text, self._item, self._reasoning)))
        self._add(self._text)

    def _text(self) -> Iterator[Said]:
        words = text(self._rng, 8)
        self._words += words
        self._open += shown(words)
        yield base.TextDelta(words)
        if self._unended and self._rng.random() < 0.5:  # some providers end it late
            self._unended = False
            yield base.ReasoningEnd(self._kept("thinking", self._thought))

    def _reasoning(self) -> Iterator[Said]:
        rng, self._open = self._rng, ""
        # Each bears a number: the same words twice could not be told apart.
        is_bare = not self._unended and rng.random() < 0.1
        words = "" if is_bare else f"{self._count}: {thought(rng)}"
        self._count += 1
        self._thought = words
        if words:
            yield base.ReasoningDelta(words)
        self._unended = False
        if is_bare or rng.random() < 0.6:
            yield base.ReasoningEnd(self._kept("thinking", words))
        elif rng.random() < 0.5:
            yield base.ReasoningEnd()
        else:
            self._unended = True

    def _source(self) -> Iterator[Said]:
        rng = self._rng
        if self._unended:  # no reasoning goes on around what goes back by itself
            self._unended = False
            yield base.ReasoningEnd()
        length = len(shown(self._words).encode("utf-16-le")) // 2
        back = sorted((rng.randint(0, length), rng.randint(0, length)), reverse=True)
        cites = (back[0], rng.choice((0, back[1]))) if rng.random() < 0.5 else None
        url = rng.choice(("https://a.example", "javascript:a()", None))
        self._count += 1
        quote = f"said {self._name} {self._count}"
        if rng.random() < 0.4:
            yield base.SourceDelta(
                url, "A title", cites=cites, quote=quote, kept=self._kept("citation", self._open)
            )
        else:
            source = base.SourceDelta(url, cites=cites)
            yield from [source] * rng.choice((1, 1, 2))

    def _item(self) -> Iterator[Said]:
        kept = self._kept("item", self._open)
        self._count += 1
        yield base.KeptDelta(kept.dialect, f"item{self._count}", kept.value)

    def _file(self) -> Iterator[Said]:
        rng, self._open = self._rng, ""
        self._count += 1
        if rng.random() < 0.3:
            yield base.FileDelta("image/png", url=f"https://files.example/{self._count}")
            return
        size = FILE_BYTES + 1 if rng.random() < 0.2 else rng.randint(30, 60)
        data = f"{self._name} {self._count} ".encode() + rng.randbytes(size)
        kept = self._kept("image", base64.b64encode(data).decode()) if rng.random() < 0.5 else None
        yield base.FileDelta("image/png", data, kept=kept)

    def _calls_at_once(self) -> Iterator[Said]:
        """One call or some, whose inputs come in turns."""
        rng, self._open = self._rng, ""
        first = self._calls
        inputs = [self._input() for _ in range(rng.choice((1, 1, 2, 3)))]
        self._calls += len(inputs)
        for index in range(first, self._calls):
            yield base.ToolCallStart(index, f"{self._name} call {index}", "look")
        while any(inputs):
            number = rng.choice([n for n, words in enumerate(inputs) if words])
            size = rng.randint(1, 200)
            yield base.ToolCallArguments(first + number, inputs[number][:size])
            inputs[number] = inputs[number][size:]
        for index in range(first, self._calls):
            if rng.random() < 0.9:
                kept = self._kept("signature", "") if rng.random() < 0.5 else None
                yield base.ToolCallEnd(index, kept)

    def _input(self) -> str:
        words = shown(text(self._rng, 40)) * self._rng.choice((1, 1, 1, 12))
        whole = json.dumps({"about": words}, ensure_ascii=False)
        return self._rng.choice((whole, whole, whole[:-2], "[1]", ""))

    def _kept(self, kind: str, words: str) -> Kept:
        """Mostly with the text of its part, as providers send it."""
        self._count += 1
        value: dict[str, Any] = {"id": f"{self._name} {self._count}", "signature": "s" * 40}
        if words and self._rng.random() < 0.7:
            value["summary"] = [{"text": words}, {"$text": words[:40], "$$text": 1}]
        if self._count == self._too_much:
            value["blob"] = self._rng.choice(("x" * KEPT_BYTES * 2, "half\ud83d", "\x00"))
        return Kept("demo", kind, value)


def is_storable(kept: Kept) -> bool:
    """Whether it is not one of those that are made to be dropped."""
    return kept.value.get("blob") in (None, "\x00")


def in_pieces(delta: Said, rng: random.Random) -> list[base.Delta]:
    """A delta as it comes: text in pieces, which may end within a character."""
    match delta:
        case base.TextDelta(words) | base.ReasoningDelta(words):
            return [replace(delta, text=piece) for piece in _pieces(words, rng)]
        case base.ToolCallArguments(_, words):
            return [replace(delta, json=piece) for piece in _pieces(words, rng, 200)]
        case Pause():
            return []
    return [delta]


def _pieces(words: str, rng: random.Random, most: int = 9) -> list[str]:
    # Characters beyond the BMP may arrive in halves, as some providers send them.
    halves = "".join(_halves(c) if rng.random() < 0.5 else c for c in words)
    pieces = []
    while halves:
        size = rng.randint(1, most)
        pieces.append(halves[:size])
        halves = halves[size:]
    return pieces


def _halves(character: str) -> str:
    if ord(character) < 0x10000:
        return character
    data = character.encode("utf-16-le")
    return "".join(chr(int.from_bytes(data[i : i + 2], "little")) for i in (0, 2))
