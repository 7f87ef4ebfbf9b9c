"""Pure: one subscriber as a state machine. The server moves bytes; what is sent, when, and why it ends is decided here.

Rules
1. Nothing is sent before a `subscribe` frame with a good token for this conversation; there is one such frame, within 10 s.
2. `subscribed` comes first, then every event after the position, then `live`, once, then events as they happen.
3. Events leave in the order of `seq`, none twice, none left out. `seq` is the last one handed to the socket: the cursor. There is
   no queue: whoever falls behind is served from its cursor, out of the ring or the log.
4. A viewer whose socket filled up gets merged chunks until it is at the tip again.
5. A position that cannot be served (trimmed away, a log that began again, beyond what is left of it) ends in `resync`, before anything
   that does not follow. Where the log forked behind the viewer, it is told so by another `subscribed`, and goes on.
6. A heartbeat is sent only at the tip, when everything up to the top that was read is with the socket; it carries the cursor.
7. The authorisation ends 30 s after the token's expiry, wherever the viewer is, unless it was refreshed.
8. After the end nothing is sent, and nothing that arrives changes anything.

    WAITING --subscribe--> OPENING --begin--> REPLAY --at the tip--> LIVE
       any of them --end--> ENDED (`ending` says with which close code)

Times are Unix seconds and passed in.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from tokenwire.protocol import frames
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.frames import (
    CONTROLS_PER_MINUTE,
    CloseCode,
    Malformed,
    Refresh,
    ResyncReason,
    Sendable,
    Subscribe,
)
from tokenwire.protocol.tokens import LEEWAY_SECONDS, BadToken, Grant, verify
from tokenwire.streams.hub.log_cursor import LogTail, carried, follows, held_by, verdict
from tokenwire.streams.limits.per_minute import PerMinute
from tokenwire.streams.log.ports import Page

SUBSCRIBE_SECONDS = 10.0
REFRESHES_PER_MINUTE = 20
BATCH_BYTES = 16 * 1024
"""Frames are written together up to about this size, so that a replay costs one system call for many events."""


class Phase(Enum):
    """See the picture above."""

    WAITING = auto()
    OPENING = auto()
    REPLAY = auto()
    LIVE = auto()
    ENDED = auto()


_FOLLOWING = frozenset({Phase.REPLAY, Phase.LIVE})
_AUTHORISED = frozenset({Phase.OPENING, Phase.REPLAY, Phase.LIVE})


@dataclass(frozen=True, slots=True)
class Closing:
    """How a connection is closed: `last` is written before the close frame, `detail` is for the log alone."""

    code: CloseCode
    detail: str
    last: bytes | None = None


Write = Callable[[bytes], bool]
"""Takes one or more whole WebSocket frames; False once the socket is full (what was given is taken all the same)."""


class SocketSession:
    """One subscriber of `conversation_id`, connected at `now`. `key` verifies tokens; `heartbeat_seconds` is told to the client."""

    __slots__ = (
        "_after",
        "_controls",
        "_conversation_id",
        "_expires_at",
        "_goal",
        "_heartbeat_seconds",
        "_key",
        "_late_at",
        "_life",
        "_refreshes",
        "behind",
        "ending",
        "epoch",
        "phase",
        "seq",
        "slow",
        "user_id",
    )

    def __init__(self, conversation_id: str, key: str, heartbeat_seconds: int, now: float) -> None:
        self._conversation_id = conversation_id
        self._key = key
        self._heartbeat_seconds = heartbeat_seconds
        self._late_at = now + SUBSCRIBE_SECONDS
        self._expires_at = math.inf
        self._refreshes, self._controls = (
            PerMinute(REFRESHES_PER_MINUTE, now),
            PerMinute(CONTROLS_PER_MINUTE, now),
        )
        self._after: Cursor | None = None
        self._goal = self._life = 0
        self.phase = Phase.WAITING
        self.ending: Closing | None = None
        self.user_id: str | None = None
        self.epoch, self.seq = "", 0
        self.behind = True
        """Not live at the tip: the next event cannot simply be written."""
        self.slow = False
        """The socket was full with more to come: chunks are merged until the tip is reached."""

    # What the client says

    def receive(self, frame: str | bytes, now: float) -> bytes | None:
        """Take a client frame; gives the frame to answer with, if any. A good `subscribe` leads to OPENING: call `begin` next."""
        if self.phase is Phase.ENDED:
            return None
        try:
            parsed = frames.parse_client(frame)
        except Malformed as error:
            self.end(CloseCode.MALFORMED, str(error))
            return None
        if isinstance(parsed, Refresh):
            return self._refresh(parsed, now)
        self._subscribe(parsed, now)
        return None

    def control(self, now: float) -> None:
        """Count a ping or a pong."""
        if not self._controls.spend(now):
            self.end(CloseCode.TOO_MANY, "too many control frames")

    def _subscribe(self, frame: Subscribe, now: float) -> None:
        if self.phase is not Phase.WAITING:
            self.end(CloseCode.MALFORMED, "a second subscribe frame")
        elif grant := self._grant(frame.token, now):
            self._expires_at, self.user_id = grant.expires_at, grant.user_id
            self._after = frame.after
            self.phase = Phase.OPENING

    def _refresh(self, frame: Refresh, now: float) -> bytes | None:
        within = self._refreshes.spend(now)
        if self.phase is Phase.WAITING:
            self.end(CloseCode.MALFORMED, "refresh before subscribe")
        elif not within:
            self.end(CloseCode.TOO_MANY, "too many refresh frames")
        elif grant := self._grant(frame.token, now):
            self._expires_at = max(
                self._expires_at, grant.expires_at
            )  # an older token takes nothing away
            return frames.text_frame(frames.refreshed(max(0, int(self._expires_at - now))))
        return None

    def _grant(self, token: str | None, now: float) -> Grant | None:
        try:
            grant = verify(self._key, token, now)
        except BadToken as error:
            self.end(CloseCode.UNAUTHORIZED, str(error))
            return None
        if grant.conversation_id != self._conversation_id:
            self.end(CloseCode.FORBIDDEN, "token is for another conversation")
            return None
        return grant

    # Time

    @property
    def deadline(self) -> float:
        """When `expire` must be called; it moves when the client subscribes or refreshes."""
        return self._late_at if self.phase is Phase.WAITING else self._expires_at + LEEWAY_SECONDS

    def expire(self, now: float) -> None:
        """End what has run out: no subscribe frame in time, or a token that was not refreshed."""
        if now < self.deadline:
            return
        if self.phase is Phase.WAITING:
            self.end(CloseCode.LATE, "no subscribe frame in time")
        else:
            self.end(CloseCode.UNAUTHORIZED, "expired while connected")

    # What the log holds

    def held_by(self, source: LogTail) -> bool:
        """Whether `source` alone can tell that the position is good, so that Redis need not be asked."""
        return self._after is None or held_by(self._after, source)

    @property
    def position(self) -> Cursor:
        """Everything up to here was handed to the socket."""
        return Cursor(self.epoch, self.seq)

    def begin(self, log: Page, life: int) -> bytes | None:
        """Judge the position by a log that stands like this; gives the `subscribed` frame, or None if it ended in a resync.

        `life`: of the source that `advance` will be given.
        """
        if self.phase is not Phase.OPENING:
            return None
        if self._after is not None and (reason := verdict(self._after, log)):
            self._resync(reason)
            return None
        self.phase = Phase.REPLAY
        self.epoch, self._goal, self._life = log.epoch, log.top, life
        self.seq = log.top if self._after is None else self._after.seq
        return self._subscribed(log.top)

    def _subscribed(self, top: int) -> bytes:
        return frames.text_frame(frames.subscribed(self.epoch, top, self._heartbeat_seconds))

    def takes(self, before: int, last: int) -> bool:
        """The fast path: whether the events after `before`, up to `last`, may be written as they come; if so, they count as written."""
        if self.behind or self.seq != before:
            return False
        self.seq = last
        return True

    def stall(self) -> None:
        """The socket is full while there is more to send."""
        self.behind = self.slow = True

    def advance(self, source: LogTail, write: Write) -> bool:
        """Write all that `source` holds and the socket takes. True: go on with a page read after `position`, given to `fetched`."""
        while self.phase in _FOLLOWING:
            if source.life != self._life or source.epoch != self.epoch:
                self._carry_over(source, write)
            entries = self._next(source)
            if entries is None:
                self.behind = True
                return True
            if not entries:
                self._arrive(write)
                return False
            if not self._put(entries, write):
                return False
        return False

    def fetched(self, page: Page, write: Write) -> None:
        """Write a page that was read after `position`, as far as the socket takes it; `advance` goes on from there."""
        if self.phase not in _FOLLOWING:
            return
        reason = verdict(self.position, page)
        if reason is None and self.seq < page.top and not follows(page.entries, self.seq):
            reason = "trimmed"
        if reason is not None:
            self._resync(reason)
        elif page.epoch == self.epoch:
            self._goal = max(self._goal, page.top)
            self._put(page.entries, write)
        # Else the source has learnt of the fork too (Tail.read): `advance` tells the viewer first.

    def heartbeat(self, log: Page) -> bytes | None:
        """The heartbeat frame, now that the log was seen to stand like this; None where the viewer is not at the tip."""
        if self.phase not in _FOLLOWING:
            return None
        if log.epoch != self.epoch:  # the source knows more of that: `advance` asks it
            self.behind = True
            return None
        if self.behind or self.seq < log.top:
            self._goal = max(self._goal, log.top)
            return None
        return frames.text_frame(frames.heartbeat(self.epoch, self.seq))

    def _next(self, source: LogTail) -> Sequence[Sendable] | None:
        # The entries to write; empty at the tip or after an end; None if they have to be read.
        if source.gone:
            self.end(CloseCode.DELETED, "conversation deleted")
            return ()
        if self.phase not in _FOLLOWING:
            return ()
        if self.seq >= source.top:
            return None if self.seq < self._goal else ()
        entries = source.since(self.seq)
        return entries if entries and follows(entries, self.seq) else None

    def _carry_over(self, source: LogTail, write: Write) -> None:
        self._life, self._goal = source.life, 0
        if not carried(self.position, source):
            self._resync("epoch")
        elif source.epoch != self.epoch:
            # What follows is of the new epoch: from now on the viewer must call its position by that name.
            self.phase, self.behind, self.epoch = Phase.REPLAY, True, source.epoch
            write(self._subscribed(source.top))

    def _arrive(self, write: Write) -> None:
        if self.phase not in _FOLLOWING:
            return
        self.behind = self.slow = False
        if self.phase is Phase.REPLAY:
            self.phase = Phase.LIVE
            write(frames.text_frame(frames.live(self.epoch, self.seq)))

    def _put(self, entries: Sequence[Sendable], write: Write) -> bool:
        for last, data in _batches(frames.merge(entries) if self.slow else entries):
            self.seq = last
            if not write(data):
                self.stall()
                return False
        return True

    # The end

    def revoke(self, users: Collection[str]) -> None:
        """`users` take part no more, whatever their tokens say."""
        if self.user_id in users:
            self.end(CloseCode.FORBIDDEN, "takes no part any more")

    def _resync(self, reason: ResyncReason) -> None:
        self.end(CloseCode.RESYNC, reason, frames.text_frame(frames.resync(reason)))

    def end(self, code: CloseCode, detail: str, last: bytes | None = None) -> None:
        """Close with `code`; the first end counts."""
        if self.phase is not Phase.ENDED:
            self.phase = Phase.ENDED
            self.behind = True
            self.ending = Closing(code, detail, last)


def _batches(entries: Iterable[Sendable]) -> Iterator[tuple[int, bytes]]:
    # (last seq, frames) of about BATCH_BYTES each.
    batch, size, last = list[bytes](), 0, 0
    for entry in entries:
        batch.append(frames.text_frame(entry.data))
        size += len(entry.data)
        last = entry.seq
        if size >= BATCH_BYTES:
            yield last, b"".join(batch)
            batch, size = [], 0
    if batch:
        yield last, b"".join(batch)
