"""Pure: what a log is, whoever keeps it (Redis in `redis.py`, this process in `memory.py`), and every way it can refuse.

LogError
  Refused            the log answered and wrote nothing
    Gone             the conversation was deleted
    Lost             another epoch, or no claim on record: what Redis knew of this attempt may be gone (then: `rejoin` or `adopt`)
    Fenced           a newer attempt owns the answer
    Sealed           the answer has its terminal event
    CancelRequested  somebody asked to stop; only a terminal event is taken (`by` says who)
    Busy             a live lease stands (claim only)
  Unavailable        no answer (connection, timeout): nothing is known about what was written
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import AnyEvent, Entry

PAGE_BYTES = 1024 * 1024
"""A page of the log carries no more than this, unless its reader asks for less."""


class LogError(Exception):
    """Base; never raised itself."""


class Refused(LogError):
    """Base of the log's own refusals; nothing was written."""


class Gone(Refused):
    """The conversation was deleted."""


class Lost(Refused):
    """Another epoch, or no claim on record for this attempt."""


class Fenced(Refused):
    """A newer attempt owns the answer."""


class Sealed(Refused):
    """The answer has its terminal event already."""


class CancelPending(Refused):
    """A cancel was requested; `by` names who."""

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
"""How long the holder of an answer is waited for that is to be cancelled: see `Log.claim`.

Readers are promised the end within a second of the cancel, whatever the worker does: what is left of it is for whoever ends the answer in
its place. A healthy worker hears within milliseconds and needs as many; on a busy machine it may be robbed of its end. Nothing that people
saw is lost then: the answer ends as readers hold it, with estimated usage, and without what the worker had not appended yet.
"""
LONGEST_LEASE_SECONDS = 60.0
"""No lease is longer. One that seems to be was given before the clock was set back, and has expired."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The window of a log: it holds at least the newest `max_events`, unless `max_bytes` or `max_seconds` is reached before.

    It is trimmed in steps of a sixteenth (what is packed: of whole blocks), and never above the lowest floor. Bytes count as they are kept.
    A log that is not written for `max_seconds` is dropped. Deletions and removals are remembered for
    `tombstone_seconds`: as long as anybody may hold a token that they forbid
    (`protocol.tokens.tombstone_seconds`).
    """

    max_events: int = 10_000
    max_bytes: int = 4 * 1024 * 1024
    max_seconds: int = 24 * 3600
    tombstone_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A claimed attempt: what an append must carry."""

    conversation_id: str
    message_id: str
    epoch: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append wrote: the seq of its first and its last event."""

    epoch: str
    first_seq: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Page:
    """One consistent look at a log.

    `oldest` is the seq of the oldest event held (top + 1 when none is), `top` the last seq given out, `floor` the lowest floor of a
    running answer or None. `forks` names earlier epochs, and up to which seq their log is this one's. `entries` follow the asked seq
    without a hole as far as the page reaches; they are empty when the asked cursor is none of this log (`reached`) or lies outside
    oldest - 1 .. top.
    """

    epoch: str
    oldest: int
    top: int
    floor: int | None
    entries: list[Entry] = field(default_factory=list)
    forks: Mapping[str, int] = field(default_factory=dict)

    def shared(self, epoch: str | None) -> int | None:
        """Up to which seq the log of `epoch` is this one's; None: nothing is known of it."""
        return self.top if epoch == self.epoch else self.forks.get(epoch or "")

    def reached(self, epoch: str | None, seq: int) -> int:
        """How far in this log somebody is who has seen everything up to `seq` of `epoch`; 0 where nothing of that is left here."""
        return seq if epoch == self.epoch else min(seq, self.forks.get(epoch or "", 0))

    @property
    def running(self) -> bool:
        """Whether an answer of this conversation is running."""
        return self.floor is not None

    @property
    def cursor(self) -> Cursor:
        """Where a reader of the SQL rows must start: SQL holds all before it."""
        return Cursor(self.epoch, self.top if self.floor is None else min(self.top, self.floor))


class Log(Protocol):
    """One ordered log per conversation. Every method is atomic, and refuses without writing. All raise LogUnavailable."""

    tombstone_seconds: float
    """How long a deletion or a removal is remembered (`Limits`)."""

    async def claim(
        self,
        conversation_id: str,
        message_id: str,
        sql_attempt: int,
        lease_seconds: float,
        disobeyed: bool = False,
    ) -> Claim:
        """Take the answer: attempt = max(known here, sql_attempt) + 1, batch index 0, lease and floor set. Gone, Sealed, Busy.

        `disobeyed`: take it to end it, although a lease stands, if its holder has not obeyed a cancel in time: UNHEARD_SECONDS after the
        request, or HEARD_SECONDS after the request if the holder was told of it (`append`, `renew`) or took the answer over since. Who
        takes it to end it, or when that time is over, has ENDING_SECONDS of its own. The fence ends the holder.
        """
        ...

    async def append(
        self, claim: Claim, index: int, covered: int, events: Sequence[AnyEvent]
    ) -> Appended:
        """Append a batch. `index` counts this attempt's batches from 0; the batch before must have been acknowledged.

        A repeat of the last index returns its result (older results are not kept: Lost). `covered`: the seq that SQL's committed
        checkpoint includes (0: none yet). A terminal event travels alone and seals the answer. A batch whose outcome is unknown
        is repeated here until it is answered, so this can wait for as long as Redis is away; cancelling the wait is safe, the caller
        repeats the same index. ValueError for an empty batch or a terminal event in company.
        Gone, Lost, Fenced, Sealed, CancelRequested.
        """
        ...

    async def rejoin(self, claim: Claim, index: int, lease_seconds: float) -> Claim:
        """After Lost, if SQL confirms the attempt: go on in an epoch that forked from the claim's and lost nothing that was acknowledged.

        Nothing is written. Batches count on: `index` is the next one, which is sent again if its outcome is unknown.
        Gone, Fenced, Sealed; Lost: some of it is missing (`adopt`).
        """
        ...

    async def adopt(
        self, claim: Claim, seen: Cursor, events: Sequence[AnyEvent], lease_seconds: float
    ) -> tuple[Claim, Appended]:
        """After Lost, if SQL confirms the attempt: record it in the current epoch and append `events`, in one step.

        `seen` is the end of the log as it was read: the events bring its readers to what the attempt holds (there may be none). The next
        batch index is 0. Gone, Fenced, Sealed; Lost: the answer was written to since, or the epoch is another one: read again.
        """
        ...

    async def announce(
        self, conversation_id: str, row_id: str, rev: int, event: AnyEvent
    ) -> Cursor:
        """Append `message` or `title`, once per row and rev; a repeat returns the current top. Gone."""
        ...

    async def renew(self, claim: Claim, lease_seconds: float) -> str | None:
        """Prolong the lease; gives who asked for a cancel, or None. Gone, Lost, Fenced, Sealed."""
        ...

    async def release(self, claim: Claim) -> None:
        """Give the lease up at once, so that a successor need not wait for it. No effect if it is not ours."""
        ...

    async def leased(self, conversation_id: str, message_id: str) -> bool:
        """Whether an attempt of the answer holds a live lease. Gone."""
        ...

    async def watched(self, conversation_id: str) -> bool:
        """Whether any process that relays logs has a reader of this conversation (a hub keeps its interest for 2 s after the last), or
        somebody wants it all the same (`note_interest`)."""
        ...

    async def note_interest(self, conversation_id: str, seconds: float) -> None:
        """Somebody has read an answer that is being made without following it: it counts as watched for so long."""
        ...

    async def request_cancel(self, conversation_id: str, message_id: str, by: str) -> bool:
        """Ask the running attempt to stop; False if the answer is sealed. Gone."""
        ...

    async def delete(self, conversation_id: str) -> None:
        """Drop the log and leave a tombstone; whoever reads or writes gets Gone. Readers notice at once."""
        ...

    async def touch(self, conversation_id: str) -> None:
        """Tell whoever shows lists of conversations that this one has changed in a way that no event tells (it is new, say)."""
        ...

    async def revoke(self, conversation_id: str, user_id: str) -> None:
        """Make known that the user may not follow the conversation any more, for `tombstone_seconds`.

        Whoever relays the log hears of it at once, and reads it when it begins or has missed something. Safe to repeat.
        """
        ...

    async def restore(self, conversation_id: str, user_id: str) -> None:
        """Take `revoke` back: the user takes part again."""
        ...

    async def revoked(self, conversation_id: str) -> frozenset[str]:
        """Those who may not follow the conversation, whatever token they hold."""
        ...

    async def read(
        self,
        conversation_id: str,
        epoch: str | None,
        after: int,
        limit: int,
        max_bytes: int = PAGE_BYTES,
    ) -> Page:
        """At most `limit` events after seq `after` of `epoch` (None: the current one), with the state of the log. Gone.

        No more than fit into `max_bytes`, but for one that is larger by itself.
        A cursor of an earlier epoch is served as long as this log shares it.
        """
        ...

    def on_end(self, hook: Callable[[str], None]) -> None:
        """Call `hook` with the conversation of each answer that is given its terminal event here, in this process, from now on."""
        ...

    async def pack(self, conversation_id: str) -> int:
        """Keep what no running answer needs in less memory, and give how many events that were. Whoever reads does not notice.

        It ends early where somebody else packs, trims or deletes meanwhile: Gone, Lost. What was packed until then stays so.
        """
        ...

    async def new_server(self) -> str | None:
        """The identity of the server, if it is not the one that was noted last: of what that was told, some may be lost. None: no news."""
        ...

    async def note_server(self, identity: str) -> None:
        """What may have been lost with the server before this one was seen to."""
        ...

    async def note_time(self, milliseconds: int) -> None:
        """Let the server keep a time. What it is told before is older, so a server that knows the time knows all of that."""
        ...

    async def noted_time(self) -> int | None:
        """The latest time that this server knows of."""
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...


class Feed(Protocol):
    """The pub/sub side of a log: what was just published, without any promise that nothing was missed.

    After a lost connection it comes back by itself and subscribes to everything again.
    """

    async def start(
        self,
        deliver: Callable[[list[tuple[bytes, bytes]]], None],
        subscribed: Callable[[bytes], None],
    ) -> None:
        """Begin. `deliver` is called with (channel, payload) pairs in order of arrival, all that one read brought at a time.

        `subscribed` is called whenever a channel was confirmed again after a break: what was published in between was missed.
        """
        ...

    async def subscribe(self, channel: str) -> None:
        """Returns when the server has confirmed. Raises Unavailable if it does not in time; the channel is then not subscribed."""
        ...

    def unsubscribe(self, channel: str) -> None:
        """Stop. What is on its way may still be delivered."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...
