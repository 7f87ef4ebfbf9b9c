"""Pure: one WebSocket reader as a state machine. The shell (readers.py) moves bytes.

What it guarantees
1. Nothing is sent before a `subscribe` frame with a good token for this conversation. There is one
   such frame, within 10 s.
2. `subscribed` comes first, then every event after the cursor, then `live`, once, then events as
   they happen. `LogCursor` decides which events these are, and its promises hold here too.
3. A reader whose socket filled up gets merged chunks until it is at the tip again.
4. A cursor that cannot be served ends in `resync`, before any event that does not follow. If the
   log forked behind the reader's cursor, another `subscribed` names the new epoch, and the reader
   continues.
5. A heartbeat is sent only at the tip: everything up to the highest top that was read was written
   to the socket. It carries the cursor.
6. The authorisation ends 30 s after the token's expiry, in every phase, unless it was refreshed.
7. After the end nothing is sent, and nothing that arrives changes anything.

    WAITING --subscribe--> OPENING --begin--> REPLAY --at the tip--> LIVE
       any of them --end--> ENDED (`ending` says with which close code)

Times are Unix seconds and passed in.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from tokenwire.protocol import frames
from tokenwire.protocol.events import Sendable
from tokenwire.protocol.frames import CONTROLS_PER_MINUTE, CloseCode, Malformed, Refresh, Subscribe
from tokenwire.protocol.tokens import LEEWAY_SECONDS, BadToken, Grant, verify
from tokenwire.streams.hub.log_cursor import (
    AT_TIP,
    BATCH_BYTES,
    END,
    FORKED,
    NEED_PAGE,
    LogCursor,
    LogTail,
)
from tokenwire.streams.limits.per_minute import PerMinute
from tokenwire.streams.log.ports import Page

SUBSCRIBE_SECONDS = 10.0
REFRESHES_PER_MINUTE = 20


class Phase(Enum):
    """The states of the picture above."""

    WAITING = auto()
    """Waiting for the `subscribe` frame."""
    OPENING = auto()
    """The cursor must be checked."""
    REPLAY = auto()
    LIVE = auto()
    ENDED = auto()


_FOLLOWING = frozenset({Phase.REPLAY, Phase.LIVE})


@dataclass(frozen=True, slots=True)
class SocketClose:
    """How a connection is closed.

    `last` is written before the close frame. `detail` is for our own log only.
    """

    code: CloseCode
    detail: str
    last: bytes | None = None


Write = Callable[[bytes], bool]
"""Takes one or more whole WebSocket frames; False once the socket is full. It takes all of them."""


class SocketSession(LogCursor):
    """One reader of `conversation_id`, connected at `now`.

    `key` verifies tokens. `heartbeat_seconds` is sent to the client.
    """

    __slots__ = (
        "_controls",
        "_conversation_id",
        "_expires_at",
        "_heartbeat_seconds",
        "_key",
        "_late_at",
        "_refreshes",
        "ending",
        "phase",
        "slow",
        "user_id",
    )

    def __init__(self, conversation_id: str, key: str, heartbeat_seconds: int, now: float) -> None:
        super().__init__()
        self._conversation_id = conversation_id
        self._key = key
        self._heartbeat_seconds = heartbeat_seconds
        self._late_at = now + SUBSCRIBE_SECONDS
        self._expires_at = math.inf
        self._refreshes = PerMinute(REFRESHES_PER_MINUTE, now)
        self._controls = PerMinute(CONTROLS_PER_MINUTE, now)
        self.phase = Phase.WAITING
        self.ending: SocketClose | None = None
        self.user_id: str | None = None
        self.slow = False
        """The socket was full with more to come: chunks are merged until the tip."""

    # Frames of the client

    def receive(self, frame: str | bytes, now: float) -> bytes | None:
        """Read a client frame; returns the answering frame, if any.

        A valid `subscribe` leads to OPENING: call `open` next.
        """
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
            self.after = frame.after
            self.phase = Phase.OPENING

    def _refresh(self, frame: Refresh, now: float) -> bytes | None:
        within = self._refreshes.spend(now)
        if self.phase is Phase.WAITING:
            self.end(CloseCode.MALFORMED, "refresh before subscribe")
        elif not within:
            self.end(CloseCode.TOO_MANY, "too many refresh frames")
        elif grant := self._grant(frame.token, now):
            # An older token shortens nothing.
            self._expires_at = max(self._expires_at, grant.expires_at)
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
        """End on a missing subscribe frame, or on a token that was not refreshed."""
        if now < self.deadline:
            return
        if self.phase is Phase.WAITING:
            self.end(CloseCode.LATE, "no subscribe frame in time")
        else:
            self.end(CloseCode.UNAUTHORIZED, "expired while connected")

    # The log

    def open(self, log: Page, version: int) -> bytes | None:
        """Check the cursor against a log of this state.

        Returns the `subscribed` frame, or None if the session ended in a resync. `version`: of the
        tail for `advance`.
        """
        if self.phase is not Phase.OPENING:
            return None
        self.begin(log, version)
        if self.ended is not None:
            self._close()
            return None
        self.phase = Phase.REPLAY
        return self._subscribed(log.top)

    def _subscribed(self, top: int) -> bytes:
        return frames.text_frame(frames.subscribed(self.epoch, top, self._heartbeat_seconds))

    def stall(self) -> None:
        """The socket is full while there is more to send."""
        self.behind = self.slow = True

    def advance(self, tail: LogTail, write: Write) -> bool:
        """Write all that `tail` holds and the socket takes.

        True: read a page after `cursor` and pass it to `write_page`.
        """
        while self.phase in _FOLLOWING:
            found = self.next(tail)
            if found is NEED_PAGE:
                return True
            if found is AT_TIP:
                self._arrive(write)
                return False
            if found is END:
                self._close()
            elif found is FORKED:
                # Later events are of the new epoch: the client must use its name for the cursor.
                self.phase = Phase.REPLAY
                write(self._subscribed(tail.top))
            elif not self._put(found, write):
                return False
        return False

    def write_page(self, page: Page, write: Write) -> None:
        """Write a page that was read after `cursor`, as far as the socket takes it."""
        if self.phase in _FOLLOWING:
            self._put(self.fetched(page), write)
            if self.ended is not None:
                self._close()

    def heartbeat(self, log: Page) -> bytes | None:
        """The heartbeat frame for a log of this state.

        None if the reader is not at the tip: call `advance`.
        """
        if self.phase not in _FOLLOWING or not self.confirm(log):
            return None
        return frames.text_frame(frames.heartbeat(self.epoch, self.seq))

    def _arrive(self, write: Write) -> None:
        self.slow = False
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
        """End the session if its user is one of `users`, whatever the token grants."""
        if self.user_id in users:
            self.end(CloseCode.FORBIDDEN, "takes no part any more")

    def _close(self) -> None:
        """End the session as the cursor has ended."""
        if self.ended == "deleted":
            self.end(CloseCode.DELETED, "conversation deleted")
        elif self.ended is not None:
            last = frames.text_frame(frames.resync(self.ended))
            self.end(CloseCode.RESYNC, self.ended, last)

    def end(self, code: CloseCode, detail: str, last: bytes | None = None) -> None:
        """Close with `code`; the first end counts."""
        if self.phase is not Phase.ENDED:
            self.phase = Phase.ENDED
            self.behind = True
            self.ending = SocketClose(code, detail, last)


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
