"""Pure: the text of an answer so far as a number of units, to locate citations."""

from bisect import bisect_left


class Passages:
    """Counts the text so far. Providers count characters; we count UTF-16 units back from the end.

    Only the positions of characters with two units are held, not the text.
    """

    def __init__(self) -> None:
        self.chars = 0
        self._wide: list[int] = []

    def add(self, text: str) -> None:
        """Add a further piece."""
        if not text.isascii():
            start = self.chars
            self._wide += [start + at for at, char in enumerate(text) if char > "\uffff"]
        self.chars += len(text)

    def back(self, start: object, end: object, base: int = 0) -> tuple[int, int] | None:
        """Start and end of a passage, in units back from the end of the text so far.

        `start`, `end`: a provider's character offsets after `base`. None if that is no passage of
        the text so far.
        """
        if type(start) is not int or type(end) is not int:
            return None
        if not 0 <= start <= end or base + end > self.chars:
            return None
        return self._units_from(base + start), self._units_from(base + end)

    def _units_from(self, char: int) -> int:
        return self.chars - char + len(self._wide) - bisect_left(self._wide, char)
