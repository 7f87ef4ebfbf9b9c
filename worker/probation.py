"""Pure: finds the answer that kills its workers.

An answer that kills its worker takes the worker's other answers with it, and each of them counts a
death.

A streaming answer makes progress, so its count restarts. But an answer that thinks in silence would
be ended together with the deadly one. So an answer with two deaths in a row is a suspect. A process
claims only one suspect at a time: it is on probation. The deadly answer kills its worker within its
probation, and no other suspect counts a death then. A suspect that survives its probation is
innocent of the deaths so far.

An answer that kills later counts as innocent each time. The limits of attempts and costs end it
(`runner`, `costs`).
"""

from tokenwire.worker.retries import PROGRESS_CHARS

SUSPECT_DEATHS = 2
PROBATION_SECONDS = 5.0
"""A deadly answer kills early: by its contents, or by its provider's first words."""


class Probation:
    """The one place for suspects that a process has."""

    def __init__(self) -> None:
        self._taken_by: str | None = None

    def admits(self, message_id: str, deaths: int) -> bool:
        """Whether an attempt may begin now, after that many deaths. A suspect takes the place."""
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
        """Free the place: the answer or its probation has ended."""
        if self.holds(message_id):
            self._taken_by = None


def over(added: int, lived_seconds: float) -> bool:
    """Whether a probation ends: the attempt made progress, or `outlived` it."""
    return added >= PROGRESS_CHARS or outlived(lived_seconds)


def outlived(lived_seconds: float) -> bool:
    """Whether the attempt survived its probation, so that earlier deaths are forgotten."""
    return lived_seconds >= PROBATION_SECONDS
