"""Pure: where a continued answer meets the readers' text.

After `prefix` some servers repeat the whole prefix (Mistral does, LM Studio did), and a server that
was given its text without trailing white space sends that again. After `turn` a model often repeats
the last words of its prompt, or starts over. A `Seam` holds pieces back only while they could be
such a repetition, and drops real ones. Text that is merely similar stays; `openings.py` decides
what counts as a start over.

| the new text | after `prefix` | after `turn` |
|---|---|---|
| begins with the whole held text | dropped, from 16 characters on | dropped |
| begins with the end of the held text | kept | dropped: whole tokens, or 8 characters |
| begins like the held text, then differs | kept | a start over: `over` |

Rejected: dropping any overlap after `prefix` (lists, refrains and code repeat their own words).
"""

from typing import Literal
from unicodedata import category

from tokenwire.providers.openings import begins_anew

_REACH = 2000
"""Characters of the held text that are searched for a repetition of its end."""
_SURE = 8
"""An overlap of this many characters is no coincidence."""
_ECHO = 16
"""An equal beginning of this length is an echo, even if the server is not known to echo."""
_UNSPACED, _UNSPACED_SURE = "\u2e80", 3
"""From this character on, scripts have no spaces between words; this many of their signs are no
coincidence.
"""
_INSIDE = "\u200d\ufe0e\ufe0f"
"""Joiner and variation selectors: the characters around them form one emoji."""


class Seam:
    """Takes the pieces of the new text and returns what to append to the held one."""

    def __init__(
        self,
        rung: Literal["prefix", "turn"],
        held: str,
        *,
        stripped: bool = False,
        echoes: bool = False,
    ) -> None:
        """`stripped`: the held text was sent without its trailing white space. `echoes`: the server
        repeats every prefix.
        """
        self._rung = rung
        self._least = 1 if echoes else _ECHO
        self._held = held
        self._bare = held.rstrip()
        self._space = held[len(self._bare) :]
        self._stripped = stripped or rung == "turn"
        self._pieces: list[str] = []
        """The held-back pieces."""
        self._start = held.lstrip() if rung == "turn" else held
        self._start_chars = len(self._start.rstrip())
        """Without trailing white space, on which the decision depends."""
        self._echoing = rung == "turn" or len(self._bare) >= self._least
        """All input so far repeats the held text from its beginning."""
        self._echoed = 0
        self.settled = not held
        self.over = False
        """The model started over in other words: the output replaces the held text."""

    def push(self, piece: str) -> str:
        """The text that may be appended now."""
        if self.settled:
            return piece
        self._pieces.append(piece)
        self._echoing = self._echoing and self._repeats(piece)
        if self._echoing or self._undecided():
            return ""
        return self._settle()

    def end(self, *, finished: bool = True) -> str:
        """The held-back text at the end of the answer. `finished`: it ended normally."""
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
        """Whether this piece continues the echo. Only the piece is compared, since comparing
        everything would be quadratic.
        """
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
        """Whether a text that ends within the held text repeated it."""
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
    """The new part of `text` after the model was given `held` as the beginning of its answer."""
    bare = held.rstrip()
    space = held[len(bare) :]
    if len(bare) >= least and text.startswith(bare):
        return _after_space(space, text[len(bare) :])
    return _after_space(space, text) if stripped else text


def after_turn(held: str, text: str) -> str:
    """The new part of `text` after the model was asked to continue after `held`."""
    lead = len(text) - len(text.lstrip())
    overlap = _overlap(held.strip(), text[lead:])
    return _after_space(held[len(held.rstrip()) :], text[lead + overlap :] if overlap else text)


def began_anew(held: str, text: str) -> bool:
    """Whether `text` begins like `held` and then differs, without repeating its end."""
    return not _overlap(held.strip(), text.lstrip()) and begins_anew(held, text)


def _after_space(space: str, text: str) -> str:
    """`text` without leading white space that already ends the held text."""
    lead = text[: len(text) - len(text.lstrip())]
    if lead.startswith(space):
        return text[len(space) :]
    return text[len(lead) :] if space.startswith(lead) else text


def _overlap(held: str, text: str) -> int:
    """Length of the longest start of `text` that ends `held` and repeats it: all of it, long, or
    whole tokens.
    """
    if text.startswith(held):
        return len(held)
    for length in range(min(len(held), len(text), _REACH), 0, -1):
        if held.endswith(text[:length]) and (
            length >= _SURE or _is_of_tokens(held[-length - 1 : -length], text[:length])
        ):
            return length
    return 0


def _is_of_tokens(before: str, overlap: str) -> bool:
    """Whether `overlap` begins a token after the character `before`, and is more than a lone dash,
    star or dot.
    """
    if not any(character.isalnum() or category(character) == "So" for character in overlap):
        return False
    if overlap[0] in _INSIDE or (before and before in _INSIDE):
        return False
    if overlap[0] >= _UNSPACED and len(overlap) >= _UNSPACED_SURE:
        return True
    return not (overlap[0].isalnum() and before.isalnum())
