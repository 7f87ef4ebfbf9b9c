"""Pure: a limit per minute for one connection. `rates` counts across processes."""

MINUTE_SECONDS = 60


class PerMinute:
    """A budget per minute. The first minute begins at `now`, each later one with its first use."""

    __slots__ = ("_began", "_count", "_limit")

    def __init__(self, limit: int, now: float) -> None:
        self._limit, self._began, self._count = limit, now, 0

    def spend(self, now: float) -> bool:
        """Count one more. Returns whether it is within the budget."""
        if now - self._began >= MINUTE_SECONDS:
            self._began, self._count = now, 0
        self._count += 1
        return self._count <= self._limit
