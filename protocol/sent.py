"""Pure: what of one text is out and cannot be taken back, for readers whose dialect has no `reset`.

Guarantees: what is given out, joined, is a beginning of the text, or `Withdrawn` is raised. Nothing
is given twice.

Why it works this way: after a `reset` a text often says the same again. Then nobody needs to
notice, so what is said again is compared with what is out instead of being refused at once.

It knows no offsets: the fold does.
"""


class Withdrawn(Exception):
    """What is out is not how the text goes any more."""


class Sent:
    """A text that grows, of which a part is out. Counts characters."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._sent = self._again = 0  # characters that are out; those of them that the text has
        self._unsent, self._taken = "", 0

    @property
    def out(self) -> str:
        """What was given."""
        self._out = ["".join(self._out)]
        return self._out[0]

    @property
    def owed(self) -> bool:
        """Whether the text does not reach as far as what is out."""
        return self._again < self._sent

    @property
    def waiting(self) -> int:
        """How many characters were not given yet."""
        return len(self._unsent) - self._taken

    def grow(self, piece: str) -> None:
        """The text goes on with this. Raises Withdrawn."""
        if self._again < self._sent:
            known = self.out[self._again : self._again + len(piece)]
            if not piece.startswith(known):
                raise Withdrawn
            self._again += len(known)
            piece = piece[len(known) :]
        self._unsent, self._taken = self._unsent[self._taken :] + piece, 0

    def become(self, text: str) -> None:
        """The text is this, and may be shorter than what is out. Raises Withdrawn."""
        self._again, self._unsent, self._taken = 0, "", 0
        self.grow(text)

    def finish(self) -> None:
        """The text grows no more. Raises Withdrawn where it is shorter than what is out."""
        if self.owed:
            raise Withdrawn

    def take(self, size: int, most: int) -> list[str]:
        """The next full pieces of `size` characters, at most so many."""
        first = self._taken
        last = first + size * min(most, self.waiting // size)
        self._give(last)
        return [self._unsent[start : start + size] for start in range(first, last, size)]

    def take_rest(self) -> str:
        """All that was not given yet."""
        rest = self._unsent[self._taken :]
        self._give(len(self._unsent))
        self._unsent, self._taken = "", 0
        return rest

    def _give(self, end: int) -> None:
        if end > self._taken:
            self._out.append(self._unsent[self._taken : end])
            self._sent += end - self._taken
            self._again, self._taken = self._sent, end
