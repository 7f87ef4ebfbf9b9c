"""Pure: so many of something in a minute. For one connection; what all processes count together is in `rates`."""

MINUTE_SECONDS = 60


class PerMinute:
    """A budget for each minute; the first begins at `now`, each later one with the first use after the one before."""

    __slots__ = ("_began", "_count", "_limit")

    def __init__(self, limit: int, now: float) -> None:
        self._limit, self._began, self._count = limit, now, 0

    def spend(self, now: float) -> bool:
        """Whether there may be this one more."""
        if now - self._began >= MINUTE_SECONDS:
            self._began, self._count = now, 0
        self._count += 1
        return self._count <= self._limit
