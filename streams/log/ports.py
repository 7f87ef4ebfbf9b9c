"""Pure: the contract of a log (on Redis in `redis.py`, in this process in `memory.py`), and its
errors.

LogError
  Refused            the log answered and wrote nothing
    Gone             the conversation was deleted
    Lost             another epoch, or no claim on record: Redis may have lost this attempt
                     (then: `rejoin` or `adopt`)
    Fenced           a newer attempt owns the answer
    Sealed           the answer has its terminal event
    CancelPending    only a terminal event is accepted (`by` names who cancelled)
    Busy             a live lease stands (claim only)
  LogUnavailable     no answer (connection, timeout): a write may have succeeded
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tokenwire.config.terms import LogTerms
from tokenwire.protocol import tokens
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent, Entry

PAGE_BYTES = 1024 * 1024
"""Maximum size of a page, unless its reader asks for less."""
_DEFAULTS = LogTerms()


class LogError(Exception):
    """Base class; never raised itself."""


class Refused(LogError):
    """Base class of the log's own refusals; nothing was written."""


class Gone(Refused):
    """The conversation was deleted."""


class Lost(Refused):
    """Another epoch, or no claim on record for this attempt."""


class Fenced(Refused):
    """A newer attempt owns the answer."""


class Sealed(Refused):
    """The answer has its terminal event already."""


class CancelPending(Refused):
    """A cancel was requested; `by` names the user."""

    def __init__(self, by: str) -> None:
        super().__init__(f"cancel requested by {by}")
        self.by = by


class Busy(Refused):
    """Another worker holds a live lease."""


class LogUnavailable(LogError):
    """Redis did not answer."""


UNHEARD_SECONDS = 0.4
HEARD_SECONDS = 0.7
ENDING_SECONDS = 2.0
"""Time for the holder of a cancelled answer: see `Log.claim`.

Readers are promised the end within a second of the cancel, whatever the worker does; the rest of
the second is for the caller that ends the answer instead. A healthy worker learns of it within
milliseconds and needs as many; on a busy machine another process may end its answer. No visible
text is lost then: the answer ends as readers hold it, with estimated usage, and without what the
worker had not appended yet.
"""
LONGEST_LEASE_SECONDS = 60.0
"""Maximum of a lease. A longer one was given before the clock was set back, and has expired."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The window of a log: at least the newest `max_events`, unless `max_bytes` or `max_seconds` is
    reached before.

    It is trimmed in steps of a sixteenth (packed events: whole blocks), and never above the lowest
    floor. Packed bytes count packed. A log without a write for `max_seconds` is dropped. Deletions
    and removals are remembered for `tombstone_seconds`: as long as a token against them may be
    valid (`protocol.tokens.tombstone_seconds`).
    """

    max_events: int = _DEFAULTS.log_max_events
    max_bytes: int = _DEFAULTS.log_max_bytes
    max_seconds: int = _DEFAULTS.log_max_seconds
    tombstone_seconds: float = tokens.tombstone_seconds(_DEFAULTS.token_ttl_seconds)

    @classmethod
    def of(cls, terms: LogTerms) -> "Limits":
        """From the settings."""
        return cls(
            max_events=terms.log_max_events,
            max_bytes=terms.log_max_bytes,
            max_seconds=terms.log_max_seconds,
            tombstone_seconds=tokens.tombstone_seconds(terms.token_ttl_seconds),
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed attempt; every append carries it."""

    conversation_id: str
    message_id: str
    epoch: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Appended:
    """The seqs of an append's first and last event."""

    epoch: str
    first_seq: int
    last_seq: int


def shared_top(own: str, top: int, forks: Mapping[str, int], epoch: str | None) -> int | None:
    """Up to which seq a log shares that of `epoch`. `own`, `top`, `forks`: as of `Page`."""
    return top if epoch == own else forks.get(epoch or "")


@dataclass(frozen=True, slots=True)
class Page:
    """A consistent read of a log.

    `oldest`: the seq of the oldest event (top + 1 if there is none); `top`: the last assigned seq;
    `floor`: the lowest floor of a running answer, or None. `forks`: earlier epochs, and up to which
    seq their logs are shared. `entries` follow the requested seq without a hole as far as the page
    reaches; they are empty if the requested cursor is unknown here (`reached`) or outside oldest -
    1 .. top.
    """

    epoch: str
    oldest: int
    top: int
    floor: int | None
    entries: list[Entry] = field(default_factory=list)
    forks: Mapping[str, int] = field(default_factory=dict)

    def shared(self, epoch: str | None) -> int | None:
        """Up to which seq this log shares that of `epoch`; None: unknown."""
        return shared_top(self.epoch, self.top, self.forks, epoch)

    def reached(self, epoch: str | None, seq: int) -> int:
        """How far in this log a reader of everything up to `seq` of `epoch` is; 0 if nothing is
        shared.
        """
        return seq if epoch == self.epoch else min(seq, self.forks.get(epoch or "", 0))

    @property
    def running(self) -> bool:
        """Whether an answer of this conversation is running."""
        return self.floor is not None

    @property
    def cursor(self) -> Cursor:
        """The cursor for readers of the SQL rows: SQL holds all before it."""
        return Cursor(self.epoch, self.top if self.floor is None else min(self.top, self.floor))


class Log(Protocol):
    """One ordered log per conversation. Every method is atomic, and a refusal writes nothing. All
    raise LogUnavailable.
    """

    tombstone_seconds: float
    """How long deletions and removals are remembered (`Limits`)."""

    async def claim(
        self,
        conversation_id: str,
        message_id: str,
        sql_attempt: int,
        lease_seconds: float,
        disobeyed: bool = False,
    ) -> Claim:
        """Claim the answer: attempt = max(known here, sql_attempt) + 1, batch index 0, with a lease
        and a floor.

        `disobeyed`: claim it to end it despite a lease, if its holder has ignored a cancel:
        UNHEARD_SECONDS after the request, or HEARD_SECONDS if the holder has the notice (`append`,
        `renew`) or claimed the answer since. A claim that ends it, or that comes after this time,
        gets ENDING_SECONDS of its own. The fence stops the holder. Raises Gone, Sealed, Busy.
        """
        ...

    async def append(
        self, claim: Claim, index: int, covered: int, events: Sequence[AnyEvent]
    ) -> Appended:
        """Append a batch. `index` counts this attempt's batches from 0; the previous one must be
        acknowledged.

        A repeat of the last index returns its result (older results: Lost). `covered`: the seq in
        SQL's committed checkpoint (0: none yet). A terminal event is alone in its batch and seals
        the answer. A batch of unknown outcome is repeated here until it is answered, so this may
        wait while Redis is away; cancelling is safe, and the caller repeats the same index. Raises
        ValueError for an empty batch or a terminal event with others; Gone, Lost, Fenced, Sealed,
        CancelPending.
        """
        ...

    async def rejoin(
        self, claim: Claim, index: int, lease_seconds: float, covered: int = 0
    ) -> Claim:
        """After Lost, if SQL confirms the attempt: continue in a forked epoch that lost nothing
        acknowledged.

        Nothing is written. Batch numbers continue: `index` is the next one, and is sent again if
        its outcome is unknown. `covered`: the seq in the claim's epoch up to which everything must
        be there; no index tells of events that `adopt` wrote. Raises Gone, Fenced, Sealed; Lost if
        something is missing (`adopt`).
        """
        ...

    async def adopt(
        self, claim: Claim, seen: Cursor, events: Sequence[AnyEvent], lease_seconds: float
    ) -> tuple[Claim, Appended]:
        """After Lost, if SQL confirms the attempt: record it in the present epoch and append
        `events`, in one step.

        `seen`: the end of the log when it was read. The events, perhaps none, bring its readers to
        the attempt's state. The next batch index is 0. Raises Gone, Fenced, Sealed; Lost if the
        answer was written to since, or the epoch changed: read again.
        """
        ...

    async def announce(
        self, conversation_id: str, row_id: str, rev: int, event: AnyEvent
    ) -> Cursor:
        """Append `message` or `title`, once per row and rev; a repeat returns the present top.
        Raises Gone.
        """
        ...

    async def renew(self, claim: Claim, lease_seconds: float) -> str | None:
        """Prolong the lease; returns who cancelled, or None. Raises Gone, Lost, Fenced, Sealed."""
        ...

    async def release(self, claim: Claim) -> None:
        """Release the lease at once for a successor. No effect if it is not ours."""
        ...

    async def leased(self, conversation_id: str, message_id: str) -> bool:
        """Whether an attempt of the answer holds a live lease. Raises Gone."""
        ...

    async def has_readers(self, conversation_id: str) -> bool:
        """Whether any process has a reader of this conversation, or `note_interest` still counts.

        A hub stays subscribed for 2 s after its last reader.
        """
        ...

    async def note_interest(self, conversation_id: str, seconds: float) -> None:
        """An unfinished answer was read without following it: count a reader for this long."""
        ...

    async def request_cancel(self, conversation_id: str, message_id: str, by: str) -> bool:
        """Ask the running attempt to stop; False if the answer is sealed. Raises Gone."""
        ...

    async def delete(self, conversation_id: str) -> None:
        """Delete the log and leave a tombstone: reads and writes raise Gone. Readers notice at
        once.
        """
        ...

    async def touch(self, conversation_id: str) -> None:
        """Publish a change of a conversation list that no event shows: a new one, for example."""
        ...

    async def revoke(self, conversation_id: str, user_id: str) -> None:
        """Refuse a user as a reader of the conversation, for `tombstone_seconds`.

        Processes with readers learn of it at once, and read it at their start or after a break.
        Safe to repeat.
        """
        ...

    async def readmit(self, conversation_id: str, user_id: str) -> None:
        """Undo `revoke`: the user is a participant again."""
        ...

    async def revoked(self, conversation_id: str) -> frozenset[str]:
        """Users who may not read the conversation, whatever token they hold."""
        ...

    async def read(
        self,
        conversation_id: str,
        epoch: str | None,
        after: int,
        limit: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        """At most `limit` events after seq `after` of `epoch` (None: the present one), with the
        log's state.

        Within `max_bytes`, except for a single larger event. A cursor of an earlier epoch works as
        long as this log shares it. Raises Gone.
        """
        ...

    def on_end(self, hook: Callable[[str], None]) -> None:
        """From now on, call `hook` with the conversation of each answer that this process ends."""
        ...

    async def pack(self, conversation_id: str) -> int:
        """Pack the events that no running answer needs, and return their number.

        Readers do not notice. Raises Gone or Lost if another process packs, trims or deletes; the
        blocks packed until then stay.
        """
        ...

    async def new_server(self) -> str | None:
        """The server's identity if it is not the last noted one, so that recent writes may be lost.
        None: no change.
        """
        ...

    async def note_server(self, identity: str) -> None:
        """Recovery after the change of the server is complete."""
        ...

    async def note_time(self, milliseconds: int) -> None:
        """Store a time on the server. A server that has this time also has all earlier writes."""
        ...

    async def noted_time(self) -> int | None:
        """The latest time stored on this server."""
        ...

    async def check(self) -> str | None:
        """What is wrong with the server, for operators, or None."""
        ...

    async def check_write(self) -> str | None:
        """Why the server refuses writes, or None: it may answer every read and refuse these."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class PubSub(Protocol):
    """The pub/sub side of a log: new messages, without a promise that none is lost.

    After a lost connection it reconnects and subscribes to everything again.
    """

    async def start(
        self,
        receive: Callable[[list[tuple[bytes, bytes]]], None],
        subscribed: Callable[[bytes], None],
    ) -> None:
        """Connect, and call `receive` with (channel, payload) pairs in order.

        One call gets all messages of one read. `subscribed` is called when a channel is confirmed
        again after a break: the messages in between were lost.
        """
        ...

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel, and wait for the confirmation.

        Raises LogUnavailable after a timeout. The channel is not subscribed then.
        """
        ...

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel. Messages that are under way may still arrive."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...
