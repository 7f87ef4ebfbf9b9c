"""Pure: whose fault the deaths of workers are. An answer that kills its workers takes all beside it along, and each of them counts a death.

What streams gets on, and its count begins anew; what thinks without a word would be ended with the deadly answer. So an answer with two
deaths in a row is a suspect, and waits for its turn before it is claimed: a process has one suspect on probation at a time. The deadly one
kills its worker within its probation, and counts a death with whatever is no suspect yet. Who outlives it is innocent of the deaths so far.

What kills later than that is taken for innocent each time. The bounds on attempts and on what is billed end it (`runner`, `costs`).
"""

from tokenwire.worker.retries import PROGRESS_CHARS

SUSPECT_DEATHS = 2
PROBATION_SECONDS = 5.0
"""What kills, kills at once: over what the answer holds, or the first thing that its provider says."""


class Probation:
    """The one place that a process has for suspects."""

    def __init__(self) -> None:
        self._taken_by: str | None = None

    def admits(self, message_id: str, deaths: int) -> bool:
        """Whether an attempt may begin now, after so many deaths that were counted: a suspect takes the place."""
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
    """Whether a probation ends: the attempt got on, which its next one finds out by itself, or `outlived` it."""
    return added >= PROGRESS_CHARS or outlived(lived_seconds)


def outlived(lived_seconds: float) -> bool:
    """Whether the deaths before are forgotten."""
    return lived_seconds >= PROBATION_SECONDS
