"""Pure: where a continued answer meets the text that viewers hold.

After `prefix` some servers repeat the whole prefix (Mistral does, LM Studio did), and one that was given its text without trailing white
space sends that again. After `turn` a model likes to start with the last words that it was shown. A `Seam` holds pieces back only as
long as they could still be such a repetition, and drops what proves to be one. Wording that merely resembles is left alone.
"""

from typing import Literal

_REACH = 400
"""Characters of the held text in which a repetition after `turn` is looked for."""
_SURE = 8
"""An overlap of this many characters is no coincidence."""
_ECHO = 16
"""What equals the beginning of the held text is an echo from this length on, if the server is not known to echo."""


class Seam:
    """Feed it the pieces of the new text; it gives what is to be appended to the held one."""

    def __init__(self, rung: Literal["prefix", "turn"], held: str, *, stripped: bool = False, echoes: bool = False) -> None:
        """`stripped`: the held text was sent without its trailing white space. `echoes`: the server repeats every prefix."""
        self._rung = rung
        self._least = 1 if echoes else _ECHO
        self._held = held
        self._bare = held.rstrip()
        self._space = held[len(self._bare) :]
        self._stripped = stripped or rung == "turn"
        self._waiting = ""
        self.settled = not held

    def push(self, piece: str) -> str:
        """What may be appended now."""
        if self.settled:
            return piece
        self._waiting += piece
        if self._undecided():
            return ""
        return self._settle()

    def end(self, *, finished: bool = True) -> str:
        """What was held back, at the end of the answer. `finished`: it ended well, not by being cut."""
        if self.settled:
            return ""
        text = self._waiting
        if self._rung == "prefix" and self._echoing() and (not finished or len(text.strip()) >= self._least):
            self.settled, self._waiting = True, ""
            return ""
        return self._settle()

    def _undecided(self) -> bool:
        text = self._waiting
        if self._rung == "prefix" and self._echoing():
            return True
        if self._rung == "turn" and len(text) < _REACH and text.strip() in self._held[-_REACH:]:
            return True
        return self._stripped and bool(self._space) and not text.strip() and len(text) < len(self._space) + _SURE

    def _echoing(self) -> bool:
        # Up to the whole prefix; white space after it belongs to the decision.
        text = self._waiting
        return len(self._bare) >= self._least and (
            self._held.startswith(text) or (text.startswith(self._bare) and not text[len(self._bare) :].strip())
        )

    def _settle(self) -> str:
        text, self._waiting = self._waiting, ""
        self.settled = True
        if self._rung == "turn":
            return after_turn(self._held, text)
        return after_prefix(self._held, text, stripped=self._stripped, least=self._least)


def stitch(rung: Literal["prefix", "turn"], held: str, text: str, *, stripped: bool = False, echoes: bool = False) -> str:
    """`held` continued by the whole new `text`, repetitions dropped."""
    seam = Seam(rung, held, stripped=stripped, echoes=echoes)
    return held + seam.push(text) + seam.end()


def after_prefix(held: str, text: str, *, stripped: bool, least: int) -> str:
    """The part of `text` that is new where the model was given `held` as the beginning of its answer."""
    bare = held.rstrip()
    space = held[len(bare) :]
    if len(bare) >= least and text.startswith(bare):
        return _after_space(space, text[len(bare) :])
    return _after_space(space, text) if stripped else text


def after_turn(held: str, text: str) -> str:
    """The part of `text` that is new where the model was asked to go on after `held`."""
    bare = held.rstrip()
    lead = len(text) - len(text.lstrip())
    overlap = _overlap(bare, text[lead:])
    return _after_space(held[len(bare) :], text[lead + overlap :] if overlap else text)


def _after_space(space: str, text: str) -> str:
    """`text` without the white space at its beginning that already stands at the end of the held text."""
    lead = text[: len(text) - len(text.lstrip())]
    if lead.startswith(space):
        return text[len(space) :]
    return text[len(lead) :] if space.startswith(lead) else text


def _overlap(held: str, text: str) -> int:
    """Length of the longest beginning of `text` that `held` ends with and that is a repetition: long, or whole words."""
    for length in range(min(len(held), len(text), _REACH), 0, -1):
        if held.endswith(text[:length]) and (length >= _SURE or _starts_a_word(held, length)):
            return length
    return 0


def _starts_a_word(held: str, length: int) -> bool:
    before = held[-length - 1 : -length]
    return held[-length:][:1].isalnum() and not before.isalnum()
