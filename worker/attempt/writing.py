"""Appends an attempt's events to the log: one batch in flight, through outages and forks.

The writer holds the claim. If the log no longer knows the claim, and SQL confirms that the attempt
is the current one, the writer appends what the log lacks. If it cannot continue (another owner, a
cancel, a bug), it reports this with `stop`.

Guarantees: the log gets every event once and in order. A batch whose outcome is unknown is sent
again under the same index, and the log recognises it. Nothing is written once the answer belongs to
somebody else.

Rejected: several batches in flight (after a failure, nobody knows which of them arrived); a timer
that collects tokens (it would delay each token of an idle system).
"""

import asyncio
from collections.abc import Callable

import structlog

from tokenwire.models.answers import Checkpoint
from tokenwire.models.errors import FileTooLong, StatementFailed, StoreUnavailable, Unstorable
from tokenwire.models.rows import unfinished
from tokenwire.models.tables import Message
from tokenwire.streams.log import ports
from tokenwire.worker.attempt.draft import Draft
from tokenwire.worker.attempt.lifecycle import CancelAsked, Disowned, Unwritable, Verdict
from tokenwire.worker.attempt.parts import FileOfPart
from tokenwire.worker.outages import OUTAGE_PAUSE_SECONDS
from tokenwire.worker.resume.takeover import Known, restore
from tokenwire.worker.services import WorkerServices

log_line = structlog.get_logger(__name__)
MAX_UNACKNOWLEDGED_CHARS = 256 * 1024
"""How far a provider may be ahead of the log before reading pauses."""


class _NotOurs(Exception):
    """The answer has ended, or a newer attempt has it."""


class LogWriter:
    """Writes one attempt's batches to the log.

    `stop` ends the attempt; `grown` is called after each batch that was acknowledged.
    """

    def __init__(
        self,
        services: WorkerServices,
        row: Message,
        claim: ports.Claim,
        draft: Draft,
        stop: Callable[[Verdict], None],
        grown: Callable[[], None],
    ) -> None:
        self.claim = claim
        self.index = 0
        """The index of the next batch in the log of the claim's epoch."""
        self._covered = 0
        """The seq up to which SQL holds everything: the log may be trimmed up to it."""
        self._services, self._row, self._draft = services, row, draft
        self._stop, self._grown = stop, grown
        self._dirty = asyncio.Event()
        self._settled = asyncio.Event()
        self._room = asyncio.Event()
        self._lost = self._unwritable = False

    def wake(self) -> None:
        """There is something to append."""
        self._dirty.set()

    def lose(self) -> None:
        """The log no longer knows the claim."""
        self._lost = True
        self._dirty.set()

    def disown(self) -> None:
        """Write nothing more: the answer belongs to another attempt."""
        self.abandon()
        self._stop(Disowned())

    def abandon(self) -> None:
        """Write nothing more, and do not wait for the batch in flight."""
        self._lost = False
        self._draft.abandon_unacknowledged()

    def saved(self, checkpoint: Checkpoint) -> None:
        """SQL holds this checkpoint. Its seq is ignored if the log began again since."""
        if checkpoint.epoch == self.claim.epoch:
            self._covered = max(self._covered, checkpoint.seq)

    async def settle(self) -> None:
        """Wait until everything taken is acknowledged, or can no longer be written."""
        while not self._unwritable and (self._lost or not self._draft.idle):
            self._settled.clear()
            self._dirty.set()
            await self._settled.wait()

    @property
    def backlogged(self) -> bool:
        """Whether so much waits that the provider should not be read."""
        return self._draft.pending_chars > MAX_UNACKNOWLEDGED_CHARS

    async def room(self) -> None:
        """Wait until a batch is acknowledged, or nothing more is written."""
        self._room.clear()
        await self._room.wait()

    def give_way(self) -> None:
        """Wake those who wait for room."""
        self._room.set()

    async def run(self) -> None:
        """Append until cancelled, or until a bug prevents it."""
        try:
            while True:
                await self._dirty.wait()
                self._dirty.clear()
                while self._lost or not self._draft.idle:
                    await self._append()
                self._settled.set()
        except Exception as error:
            log_line.exception("the log cannot be written", message_id=self._row.id)
            self._unwritable = True
            self._draft.abandon_unacknowledged()
            self._stop(Unwritable(error))
            self._settled.set()

    async def _append(self) -> None:
        try:
            if self._lost:
                await self._adopt()
                return
            await self._store_files()
            if self._draft.idle:  # everything that waited was abandoned meanwhile
                return
            done = await self._services.log.append(
                self.claim, self.index, self._covered, self._draft.batch()
            )
        except ports.Lost:
            self._lost = True
        except ports.CancelPending as request:
            self._draft.abandon_unacknowledged()
            self._stop(CancelAsked(request.by))
        except (ports.LogUnavailable, StoreUnavailable):
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
        except (ports.Refused, _NotOurs):
            self.disown()
        else:
            self.index += 1
            self._draft.acknowledged(done.last_seq)
            self._grown()
            self._room.set()

    async def _store_files(self) -> None:
        """Store the bytes of files before an event has their address. Files too long are lost.

        Raises StoreUnavailable, _NotOurs.
        """
        while files := self._draft.unstored_files():
            for number, file in files.items():
                is_stored = await self._store_file(number, file)
                if self._draft.unstored_files().get(number) is not file:
                    continue  # the answer started over meanwhile
                if is_stored:
                    self._draft.file_stored(number)
                else:
                    self._draft.file_refused(number)

    async def _store_file(self, number: int, file: FileOfPart) -> bool:
        """Store a file. False: the database refuses it. Raises StoreUnavailable, _NotOurs."""
        try:
            digest = await self._services.store.save_file(
                self._row.id, self.claim.attempt, number, file.media_type, file.data
            )
        except (FileTooLong, StatementFailed, Unstorable) as error:
            log_line.warning("a file is not stored", message_id=self._row.id, error=repr(error))
            return False
        if digest is None:
            raise _NotOurs
        return True

    async def _adopt(self) -> None:
        """Join a log that no longer knows this attempt, if SQL says that it is current."""
        try:
            row = await self._services.store.message(self._row.id)
        except StoreUnavailable:
            await asyncio.sleep(OUTAGE_PAUSE_SECONDS)
            return
        if row is None or row.attempt != self.claim.attempt or not unfinished(row):
            self.disown()
            return
        try:
            self.claim = await self._services.log.rejoin(
                self.claim, self.index, self._services.lease_seconds, self._draft.seq
            )
        except ports.Lost:
            await self._restore()
        self._lost = False

    async def _restore(self) -> None:
        """Append again what the log has lost. The batch in flight follows, unchanged."""
        known = Known(self._draft.held, self.claim.epoch)
        self.claim, held = await restore(
            self._services.log, self.claim, known, self._services.lease_seconds
        )
        self.index, self._covered = 0, 0
        self._draft.adopted(held.seq)
