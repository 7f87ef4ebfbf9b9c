"""Pure: where a continued answer meets the text that readers hold.

After `prefix` some servers repeat the whole prefix (Mistral does, LM Studio did), and a server that was given its text without trailing
white space sends that again. After `turn` a model likes to repeat the last words that it was shown, or begins the answer anew. A `Seam`
holds pieces back only as long as they could still be such a repetition, and drops what proves to be one. Wording that merely resembles is
left alone; what is enough to call it a start over is decided in `openings.py`.

| the new text | after `prefix` | after `turn` |
|---|---|---|
| begins with the whole held text | dropped, from 16 characters on | dropped, whatever its length |
| begins with the end of the held text | kept: the model goes on from there | dropped: whole tokens, or 8 characters |
| begins as the held text does, for some words, and then differs | kept | the answer began anew: `over` |
"""

from typing import Literal
from unicodedata import category

from tokenwire.providers.openings import begins_anew

_REACH = 2000
"""Characters of the held text in which a repetition of its end is looked for."""
_SURE = 8
"""An overlap of this many characters is no coincidence."""
_ECHO = 16
"""What equals the beginning of the held text is an echo from this length on, if the server is not known to echo."""
_UNSPACED, _UNSPACED_SURE = "\u2e80", 3
"""From here on scripts write words without spaces between them; so many signs of theirs are no coincidence."""
_INSIDE = "\u200d\ufe0e\ufe0f"
"""Joiner and variation selectors: what stands around them is part of one emoji."""


class Seam:
    """Feed it the pieces of the new text; it gives what is to be appended to the held one."""

    def __init__(
        self,
        rung: Literal["prefix", "turn"],
        held: str,
        *,
        stripped: bool = False,
        echoes: bool = False,
    ) -> None:
        """`stripped`: the held text was sent without its trailing white space. `echoes`: the server repeats every prefix."""
        self._rung = rung
        self._least = 1 if echoes else _ECHO
        self._held = held
        self._bare = held.rstrip()
        self._space = held[len(self._bare) :]
        self._stripped = stripped or rung == "turn"
        self._pieces: list[str] = []
        """What waits."""
        self._start = held.lstrip() if rung == "turn" else held
        self._start_chars = len(self._start.rstrip())
        """Without the white space at its end, which belongs to the decision."""
        self._echoing = rung == "turn" or len(self._bare) >= self._least
        """All that has come repeats the held text from its beginning."""
        self._echoed = 0
        self.settled = not held
        self.over = False
        """The model began anew, with other words: what is given takes the place of the held text."""

    def push(self, piece: str) -> str:
        """What may be appended now."""
        if self.settled:
            return piece
        self._pieces.append(piece)
        self._echoing = self._echoing and self._repeats(piece)
        if self._echoing or self._undecided():
            return ""
        return self._settle()

    def end(self, *, finished: bool = True) -> str:
        """What was held back, at the end of the answer. `finished`: it ended well, not by being cut."""
        if self.settled:
            return ""
        if self._echoing and self._is_echo(finished=finished):
            self._taken()
            return ""
        return self._settle()

    def _waiting(self) -> str:
        text = "".join(self._pieces)
        self._pieces = [text]
        return text

    def _taken(self) -> str:
        text, self._pieces, self.settled = self._waiting(), [], True
        return text

    def _undecided(self) -> bool:
        text = self._waiting()
        if self._rung == "turn" and len(text) < _REACH and text.strip() in self._held[-_REACH:]:
            return True
        return (
            self._stripped
            and bool(self._space)
            and len(text) < len(self._space) + _SURE
            and not text.strip()
        )

    def _repeats(self, piece: str) -> bool:
        """Whether this piece goes on with the echo. Only the piece is looked at: the whole would be compared again with each of them."""
        if self._rung == "turn" and not self._echoed:
            piece = piece.lstrip()
        at, self._echoed = self._echoed, self._echoed + len(piece)
        if self._start[at : self._echoed] == piece:
            return True
        within = piece[: max(0, self._start_chars - at)]
        return (
            self._echoed >= self._start_chars
            and self._start[at : at + len(within)] == within
            and not piece[len(within) :].strip()
        )

    def _is_echo(self, *, finished: bool) -> bool:
        """Whether what ends in the midst of the held text was a repetition of it."""
        text = self._waiting()
        length = len(text.strip())
        if self._rung == "turn":
            return began_anew(self._held, text) or (not finished and length >= _ECHO)
        return not finished or length >= self._least

    def _settle(self) -> str:
        text = self._taken()
        if self._rung == "turn":
            self.over = began_anew(self._held, text)
            return text if self.over else after_turn(self._held, text)
        return after_prefix(self._held, text, stripped=self._stripped, least=self._least)


def after_prefix(held: str, text: str, *, stripped: bool, least: int) -> str:
    """The part of `text` that is new where the model was given `held` as the beginning of its answer."""
    bare = held.rstrip()
    space = held[len(bare) :]
    if len(bare) >= least and text.startswith(bare):
        return _after_space(space, text[len(bare) :])
    return _after_space(space, text) if stripped else text


def after_turn(held: str, text: str) -> str:
    """The part of `text` that is new where the model was asked to go on after `held`."""
    lead = len(text) - len(text.lstrip())
    overlap = _overlap(held.strip(), text[lead:])
    return _after_space(held[len(held.rstrip()) :], text[lead + overlap :] if overlap else text)


def began_anew(held: str, text: str) -> bool:
    """Whether `text` begins as `held` does and then goes another way, without being a repetition of its end."""
    return not _overlap(held.strip(), text.lstrip()) and begins_anew(held, text)


def _after_space(space: str, text: str) -> str:
    """`text` without the white space at its beginning that already stands at the end of the held text."""
    lead = text[: len(text) - len(text.lstrip())]
    if lead.startswith(space):
        return text[len(space) :]
    return text[len(lead) :] if space.startswith(lead) else text


def _overlap(held: str, text: str) -> int:
    """Length of the longest beginning of `text` that `held` ends with and that is a repetition: all of it, long, or whole tokens."""
    if text.startswith(held):
        return len(held)
    for length in range(min(len(held), len(text), _REACH), 0, -1):
        if held.endswith(text[:length]) and (
            length >= _SURE or _is_of_tokens(held[-length - 1 : -length], text[:length])
        ):
            return length
    return 0


def _is_of_tokens(before: str, overlap: str) -> bool:
    """Whether `overlap` begins a token behind the character `before`, and says something: a lone dash, star or dot is no repetition."""
    if not any(character.isalnum() or category(character) == "So" for character in overlap):
        return False
    if overlap[0] in _INSIDE or (before and before in _INSIDE):
        return False
    if overlap[0] >= _UNSPACED and len(overlap) >= _UNSPACED_SURE:
        return True
    return not (overlap[0].isalnum() and before.isalnum())
