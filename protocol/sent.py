"""Pure: tracks how much of a text was sent, for dialects that cannot take text back.

Guarantees: the pieces taken so far, joined, are the beginning of the text, or `Withdrawn` is
raised. No character is taken twice.

Why it works this way: after a `reset`, a text often repeats what it said before. Then readers need
not notice. So the new text is compared with what was sent, instead of being refused at once.

Offsets are the fold's task. This module counts characters.
"""


class Withdrawn(Exception):
    """The text no longer begins with what was sent."""


class Sent:
    """A growing text whose beginning was sent. Lengths are characters."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._sent = self._matched = 0  # characters sent; how many of them the present text has
        self._unsent, self._taken = "", 0

    @property
    def out(self) -> str:
        """The text that was sent."""
        self._out = ["".join(self._out)]
        return self._out[0]

    @property
    def behind(self) -> bool:
        """Whether the text is shorter than what was sent."""
        return self._matched < self._sent

    @property
    def waiting(self) -> int:
        """The number of characters that were not sent yet."""
        return len(self._unsent) - self._taken

    def grow(self, piece: str) -> None:
        """Append a piece to the text. Raises Withdrawn if it differs from what was sent."""
        if self._matched < self._sent:
            known = self.out[self._matched : self._matched + len(piece)]
            if not piece.startswith(known):
                raise Withdrawn
            self._matched += len(known)
            piece = piece[len(known) :]
        self._unsent, self._taken = self._unsent[self._taken :] + piece, 0

    def replace(self, text: str) -> None:
        """Replace the text, perhaps by a shorter one. Raises Withdrawn if they differ."""
        self._matched, self._unsent, self._taken = 0, "", 0
        self.grow(text)

    def finish(self) -> None:
        """The text is complete. Raises Withdrawn if it is shorter than what was sent."""
        if self.behind:
            raise Withdrawn

    def take(self, size: int, most: int) -> list[str]:
        """The next full pieces of `size` characters, at most `most` of them."""
        first = self._taken
        last = first + size * min(most, self.waiting // size)
        self._give(last)
        return [self._unsent[start : start + size] for start in range(first, last, size)]

    def take_rest(self) -> str:
        """The rest of the text that was not sent yet."""
        rest = self._unsent[self._taken :]
        self._give(len(self._unsent))
        self._unsent, self._taken = "", 0
        return rest

    def _give(self, end: int) -> None:
        if end > self._taken:
            self._out.append(self._unsent[self._taken : end])
            self._sent += end - self._taken
            self._matched, self._taken = self._sent, end
