"""Pure: a text that is cut at many offsets, in one pass."""


class Slices:
    """A text that is taken out slice by slice, from its beginning to its end. Offsets are UTF-16
    units.

    No character is split: an offset inside a surrogate pair counts as the one before the pair. The
    text is encoded once, so thousands of cuts in megabytes of text take linear time.
    """

    def __init__(self, text: str, taken_units: int = 0) -> None:
        """`taken_units`: units at the beginning that are skipped."""
        self._text = text if text.isascii() else None
        self._data = b"" if self._text is not None else text.encode("utf-16-le", "surrogatepass")
        self._units = len(text) if self._text is not None else len(self._data) // 2
        self.taken_units = 0
        self.take(taken_units)

    def take(self, offset: int | None = None) -> str:
        """The next slice, up to the offset. None, or an offset beyond the end, gives the rest."""
        end = self._units if offset is None else min(max(offset, self.taken_units), self._units)
        if self._text is not None:
            start, self.taken_units = self.taken_units, end
            return self._text[start:end]
        if end > self.taken_units and end < self._units and self._data[2 * end - 1] & 0xFC == 0xD8:
            end -= 1
        start, self.taken_units = self.taken_units, end
        return self._data[2 * start : 2 * end].decode("utf-16-le", "surrogatepass")
