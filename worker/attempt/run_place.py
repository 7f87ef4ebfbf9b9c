"""Pure: the last place in a provider's run from which a later attempt may attach.

A place counts once the log holds all that was taken up to it. What follows a place is said again by
the run; text before it that the log lacks would be missing.

    reach(place) -> send() -> acknowledge() -> acknowledged
"""

from tokenwire.worker.resume.continuation import Run


class RunPlace:
    """The places of one run. `acknowledged`: the last one that the log has reached, or None."""

    def __init__(self, run: Run | None = None) -> None:
        self.acknowledged = run
        self._taken: Run | None = None
        """The last place that was taken, perhaps with text that still waits."""
        self._sent: Run | None = None
        """The last place within the batch that is out."""

    def reach(self, place: Run, *, idle: bool) -> None:
        """The run can be attached to here. `idle`: the log holds all that was taken."""
        self._taken = place
        if idle:
            self.acknowledged = place

    def send(self) -> None:
        """A batch with everything taken so far is being appended."""
        self._sent = self._taken

    def acknowledge(self, *, idle: bool) -> None:
        """The log has the batch. `idle`: nothing was taken meanwhile."""
        self.acknowledged = (self._taken if idle else self._sent) or self.acknowledged

    def drop_waiting(self) -> None:
        """Forget places behind the batch that is out: no batch follows it."""
        self._taken = self._sent

    def drop_unacknowledged(self) -> None:
        """Forget all places that the log has not reached: the batch that is out may be lost, and
        none follows.
        """
        self._taken = self._sent = None

    def forget(self) -> None:
        """The run is not attached to again."""
        self.acknowledged = self._taken = self._sent = None
