"""Pure: which answer causes the deaths of workers. An answer that kills its workers takes all
others with it, and each of them counts a death.

A streaming answer makes progress, and its count restarts; a silently thinking one would be ended
with the deadly one. So an answer with two deaths in a row is a suspect, and waits for its turn
before it is claimed: a process has one suspect on probation at a time. The deadly one kills its
worker within its probation, and counts a death with other answers that are no suspects yet. A
suspect that survives is innocent of the deaths so far.

What kills later than that counts as innocent each time. The limits on attempts and on billing end
it (`runner`, `costs`).
"""

from tokenwire.worker.retries import PROGRESS_CHARS

SUSPECT_DEATHS = 2
PROBATION_SECONDS = 5.0
"""A deadly answer kills at once: by its contents, or by the first words of its provider."""


class Probation:
    """The one place that a process has for suspects."""

    def __init__(self) -> None:
        self._taken_by: str | None = None

    def admits(self, message_id: str, deaths: int) -> bool:
        """Whether an attempt may begin now, after that many counted deaths: a suspect takes the
        place.
        """
        if deaths < SUSPECT_DEATHS:
            return True
        if self._taken_by is not None:
            return False
        self._taken_by = message_id
        return True

    def holds(self, message_id: str) -> bool:
        """Whether this answer is on probation."""
        return self._taken_by == message_id

    def leave(self, message_id: str) -> None:
        """The answer has ended, or its probation has: the place is the next one's."""
        if self.holds(message_id):
            self._taken_by = None


def over(added: int, lived_seconds: float) -> bool:
    """Whether a probation ends: the attempt made progress, which its next one notices by itself, or
    `outlived` it.
    """
    return added >= PROGRESS_CHARS or outlived(lived_seconds)


def outlived(lived_seconds: float) -> bool:
    """Whether the deaths before are forgotten."""
    return lived_seconds >= PROBATION_SECONDS
