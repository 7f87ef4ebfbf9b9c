"""The run of one attempt at its provider. Its name is saved as soon as it is known.

Whoever comes after this process attaches to the run, or ends it (`run_ender`). Both find it by its
name alone. Whoever leaves the run notes whether it is over.
"""

from tokenwire.models.answers import Checkpoint
from tokenwire.models.store import Store
from tokenwire.protocol.text import fits
from tokenwire.providers.base import DeltaStream
from tokenwire.worker.attempt.draft import MAX_RUN_ID_CHARS, Draft
from tokenwire.worker.outages import outlast


class NamedRun:
    """`over`: the provider has reported the end of the run. Runs without a name are ignored."""

    def __init__(
        self, store: Store, message_id: str, model: str, attempt: int, draft: Draft
    ) -> None:
        self.over = False
        self._store, self._message_id, self._model = store, message_id, model
        self._attempt, self._draft = attempt, draft
        self._name: str | None = None
        self._left: str | None = None

    def learn(self, stream: DeltaStream, cursor: int | None) -> bool:
        """Whether the stream has a new name of a run. Save it with `begin`.

        `cursor`: the place in the run before what came last, which is not taken yet (None: its
        beginning).
        """
        name = stream.run_id
        if name == self._name or name is None or not fits(name, MAX_RUN_ID_CHARS):
            return False
        self._name = name
        if not stream.stitching and not self._draft.answered:
            self._draft.reached(name, cursor)
        return True

    async def begin(self, saved: Checkpoint) -> bool:
        """Save the name, with the text that the run continues. False: the answer was lost."""
        name = self._name or ""
        return await outlast(
            self._message_id, lambda: self._store.begin_run(name, self._model, saved)
        )

    def reached(self, stream: DeltaStream) -> None:
        """Everything so far was taken: an attempt that attaches continues behind it, or earlier."""
        if self._name is not None and not (stream.stitching or stream.midway):
            self._draft.reached(self._name, stream.cursor)

    async def leave(self) -> None:
        """Forget the run if it is over. Otherwise note it once more.

        This process may have been frozen before it sent the request. Then another process has ended
        the answer without a run to end.
        """
        name = self._name
        if name is None or name == self._left:
            return
        self._left = name
        if self.over:
            await outlast(self._message_id, lambda: self._store.run_ended(self._message_id, name))
        else:
            await outlast(
                self._message_id,
                lambda: self._store.note_run(name, self._model, self._message_id, self._attempt),
            )
