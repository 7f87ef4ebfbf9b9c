"""Pure: a text that grows, of which a part is out and cannot be taken back: for dialects that know no `reset`."""

from tokenwire.protocol.text import cut, utf16_length


class Hole(ValueError):
    """An event does not fit what was seen before it: something was lost."""


class Withdrawn(Exception):
    """What is out is not how the text goes any more."""


class Growing:
    """Text by offsets (UTF-16 units) in, pieces out. `sent`: characters that are out.

    A reset may take away what is out. As long as the text then says the same again, nobody needs to notice; where it says something else,
    `put`, `become` and `finish` raise Withdrawn: the text is taken over all the same, and the caller begins again with `Growing(it.whole)`.
    """

    def __init__(self, text: str = "") -> None:
        self.sent = 0
        self._parts = [text]
        self._units = utf16_length(text)
        self._unsent = text
        self._owed: str | None = None  # what is out, while the text does not reach so far

    def __bool__(self) -> bool:
        return self._units > 0

    @property
    def whole(self) -> str:
        """All of it."""
        self._parts = ["".join(self._parts)]
        return self._parts[0]

    @property
    def out(self) -> str:
        """What was sent."""
        return self.whole[: self.sent] if self._owed is None else self._owed

    def put(self, offset: int, content: str) -> None:
        """`content` belongs at `offset`; of what is there already the overlap is dropped. Raises Hole, Withdrawn."""
        if offset > self._units:
            raise Hole(f"{self._units} units held, the next piece is at {offset}")
        if offset < self._units:
            overlap = min(self._units - offset, utf16_length(content))
            content = content[len(cut(content, overlap)) :]
        self._parts.append(content)
        self._units += utf16_length(content)
        self._unsent += content
        if self._owed is not None:
            self._compare()

    def keep(self, units: int) -> None:
        """Withdraw what lies behind. Raises Hole where there is less."""
        if units > self._units:
            raise Hole(f"{self._units} units held, {units} are to be kept")
        self._set(cut(self.whole, units))

    def become(self, text: str) -> None:
        """Be this text, and go on from there: it may not reach as far as what is out yet. Raises Withdrawn."""
        self._set(text)
        if self._owed is not None:
            self._compare()

    def finish(self, text: str) -> None:
        """Be this text, for good. Raises Withdrawn."""
        self._set(text)
        if self._owed is not None:
            raise Withdrawn

    def waiting(self, size: int) -> int:
        """How many full pieces of `size` characters may leave."""
        return 0 if self._owed is not None else len(self._unsent) // size

    def take(self, size: int, most: int) -> list[str]:
        """The next full pieces, at most so many."""
        count = min(most, self.waiting(size))
        taken, self._unsent = self._unsent[: count * size], self._unsent[count * size :]
        self.sent += len(taken)
        return [taken[start : start + size] for start in range(0, len(taken), size)]

    def take_rest(self) -> str:
        """All that has not left yet."""
        rest = "" if self._owed is not None else self._unsent
        self.sent += len(rest)
        self._unsent = ""
        return rest

    def _set(self, text: str) -> None:
        out = self.out
        self._parts, self._units = [text], utf16_length(text)
        self._owed = None if text.startswith(out) else out
        self._unsent = text[self.sent :] if self._owed is None else ""

    def _compare(self) -> None:
        text, owed = self.whole, self._owed or ""
        if text.startswith(owed):
            self._owed, self._unsent = None, text[self.sent :]
        elif not owed.startswith(text):
            raise Withdrawn
