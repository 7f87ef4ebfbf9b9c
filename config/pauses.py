"""Pauses between failures that follow one another. Each is twice as long as the one before."""

import random


class GrowingPause:
    """From `first` to `longest` seconds.

    Whoever waits for the same service as others takes `spread`, so that not all come at once.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first, self._longest = min(first, longest), longest
        self._next = self._first

    @property
    def is_first(self) -> bool:
        """Whether the next pause is the first one."""
        return self._next == self._first

    def reset(self) -> None:
        """It worked: the next pause is the first one again."""
        self._next = self._first

    def ran(self, seconds: float) -> None:
        """It worked for this long. That is enough if it is longer than the longest pause."""
        if seconds > self._longest:
            self.reset()

    def next(self) -> float:
        """The seconds to wait now."""
        pause, self._next = self._next, min(self._next * 2, self._longest)
        return pause

    def spread(self) -> float:
        """As `next`, or up to half of it less."""
        return self.next() * random.uniform(0.5, 1.0)  # noqa: S311 -- spreads load, guards nothing
