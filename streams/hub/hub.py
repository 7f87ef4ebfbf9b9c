"""One tail of each followed conversation per process: cursors instead of queues.

A `Tail` holds the recent end of one log in a bounded ring. Readers keep a cursor and take what
follows it, from the ring or, when they lag, from the log. The hub checks pub/sub: an event goes
into the ring only if it is the next one of the same epoch. After a gap, another epoch or a new
subscription it reads the log from its top before it continues.

Guarantees: a ring has no hole, and all of it belongs to the log of its epoch. So a reader gets each
event once and in order, or learns that it must read the log.

Rejected: a queue for each reader (readers that do not read would fill the memory); trusting pub/sub
(it loses messages whenever its connection breaks).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

from tokenwire.config.pauses import GrowingPause
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import shows_work
from tokenwire.streams.hub.pubsub import RedisPubSub
from tokenwire.streams.log import keys
from tokenwire.streams.log.ports import Gone, Log, LogUnavailable, Page, PubSub

__all__ = ["Hub", "RedisPubSub", "RingEntry", "Tail"]

log_line = logging.getLogger(__name__)

RING_EVENTS = 512
RING_BYTES = 256 * 1024
GRACE_SECONDS = 2.0
"""A tail outlives its last reader this long, for a reader that reconnects."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
_CHANGES = keys.CHANGES.encode()


class RingEntry:
    """One event as it is relayed; `frame` caches its encoded form for all."""

    __slots__ = ("data", "frame", "seq")

    def __init__(self, seq: int, data: bytes) -> None:
        self.seq = seq
        self.data = data
        self.frame: bytes | None = None


class Tail:
    """The recent end of one conversation's log in this process.

    `epoch` and `top`: the known end of the log; `forks`: earlier epochs that it continues
    (`streams.log.ports.Page`); `running`: an answer runs; `gone`: the conversation was deleted.
    `version` changes when readers must check their cursors again. `revoked`: users who may not
    read it any more.
    """

    def __init__(self, conversation_id: str, log: Log) -> None:
        self.conversation_id = conversation_id
        self.epoch = ""
        self.forks: Mapping[str, int] = {}
        self.version = 0
        self.top = 0
        self.running = False
        self.gone = False
        self.revoked: frozenset[str] = frozenset()
        self._access_is_known = False
        self._log = log
        self._ring: list[RingEntry] = []
        self._ring_bytes = 0
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next_listener = 0
        self._asked: asyncio.Future[Page] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = False
        self._stale = False

    # --- for readers ---

    def since(self, after: int) -> list[RingEntry] | None:
        """The entries after seq `after`: an empty list at the tip, None if the ring lacks some.

        Then `read`.
        """
        missing = self.top - after
        if missing == 0:
            return []
        if not 0 < missing <= len(self._ring):
            return None
        return self._ring[-missing:]

    @property
    def known(self) -> Page:
        """The state of the log as far as this tail knows it, without entries."""
        return Page(self.epoch, 0, self.top, None, [], self.forks)

    async def read(self, after: Cursor, limit: int, max_bytes: int) -> Page:
        """Read the log itself: at most `limit` events and `max_bytes` after a cursor.

        If the log has another epoch, or was set back, the tail knows it when this returns. Raises
        Gone, LogUnavailable.
        """
        top = self.top
        page = await self._log.read(self.conversation_id, after.epoch, after.seq, limit, max_bytes)
        if page.epoch != self.epoch or page.top < top:
            await self.refresh()
        return page

    async def refresh(self) -> Page:
        """The present state of the log (for heartbeats). The tail has all of it when this returns.

        Concurrent readers share one read. Raises Gone, LogUnavailable.
        """
        return await asyncio.shield(self._ask())

    def listen(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` after new entries, another epoch, or the deletion of the conversation.

        Returns a function that removes the listener.
        """
        self._next_listener += 1
        number = self._next_listener
        self._listeners[number] = wake

        def remove() -> None:
            self._listeners.pop(number, None)

        return remove

    # --- for the hub ---

    def take(self, payload: bytes) -> None:
        """One message of pub/sub. `wake` must follow."""
        if payload == b"gone":
            self._end()
            return
        if payload == keys.ACCESS:
            self.catch_up()
            return
        try:
            name, number, data = payload.split(b":", 2)
            epoch, seq = name.decode(), int(number)
        except ValueError:
            log_line.warning(
                "the channel of %s carried something that is no event", self.conversation_id
            )
            return
        if epoch != self.epoch or seq > self.top + 1:
            self.catch_up()
        elif seq == self.top + 1:
            self._add(seq, data)
            self._trim()
            if not self.running:
                self.running = shows_work(data)

    def wake(self) -> None:
        """Notify listeners of the changes since the last call."""
        if not self._changed:
            return
        self._changed = False
        for listener in tuple(self._listeners.values()):
            try:
                listener()
            except Exception:
                log_line.exception("a listener of %s failed", self.conversation_id)

    def catch_up(self) -> None:
        """Read the log from the top until nothing is missing."""
        self._stale = True
        self._access_is_known = False
        self._ask()

    def close(self) -> None:
        """Stop reading."""
        if self._reader is not None:
            self._reader.cancel()

    # --- reading ---

    def _ask(self) -> asyncio.Future[Page]:
        """Ask for a read that begins after this call. The result is shared with other callers."""
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            # A caller that only wants the tail to catch up ignores the result.
            self._asked.add_done_callback(lambda future: future.cancelled() or future.exception())
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_on())
        return self._asked

    async def _read_on(self) -> None:
        pause = GrowingPause(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        try:
            while self._asked is not None:
                asked, self._asked = self._asked, None
                self._stale, stale = False, self._stale
                if await self._resolve(asked):
                    pause.reset()
                elif stale:
                    self._stale = True
                    await asyncio.sleep(pause.spread())
                    self._ask()
        finally:
            self._reader = None
            if self._asked is not None:
                self._asked.cancel()

    async def _resolve(self, asked: asyncio.Future[Page]) -> bool:
        try:
            page = await self._read_to_the_top()
        except LogUnavailable as error:
            asked.set_exception(error)
            return False
        except Gone as error:
            asked.set_exception(error)
            self._end()
        except Exception as error:
            # Readers wait for this tail, and another read may succeed.
            log_line.exception("the log of %s cannot be read", self.conversation_id)
            unavailable = LogUnavailable(f"the log cannot be read ({type(error).__name__})")
            unavailable.__cause__ = error
            asked.set_exception(unavailable)
            return False
        else:
            asked.set_result(page)
        self.wake()
        return True

    async def _read_to_the_top(self) -> Page:
        if not self._access_is_known:
            await self._read_access()
        epoch, top = self.epoch, self.top
        page = await self._log.read(
            self.conversation_id, epoch or None, top, RING_EVENTS if epoch else 0, RING_BYTES
        )
        self.running = page.running
        if (
            epoch and page.epoch != epoch and self.top <= page.forks.get(epoch, -1)
        ):  # the log forked behind everything that is known here
            self._set_epoch(page.epoch, page.forks)
        elif page.epoch != epoch:  # the log began again, or forked before the known top
            self._start_over(page, page.forks)
        elif page.top < top:  # the log was set back, but has its old epoch
            self._start_over(page, {**page.forks, epoch: page.top})
        if page.top > self.top:
            self._extend(page)
        return page

    async def _read_access(self) -> None:
        self._access_is_known = True  # a message in the meantime resets it
        try:
            revoked = await self._log.revoked(self.conversation_id)
        except BaseException:
            self._access_is_known = False
            raise
        self._changed = self._changed or revoked != self.revoked
        self.revoked = revoked

    def _extend(self, page: Page) -> None:
        # More than a ring is missing, or it is trimmed: lagging readers read the log themselves.
        if not page.entries or page.entries[-1].seq < page.top:
            self._skip_to(page.top)
            return
        for entry in page.entries:
            if entry.seq == self.top + 1:  # pub/sub may have brought some meanwhile
                self._add(entry.seq, entry.data)
        self._trim()

    # --- the ring ---

    def _set_epoch(self, epoch: str, forks: Mapping[str, int]) -> None:
        self._changed = True
        self.epoch, self.forks = epoch, forks
        self.version += 1

    def _start_over(self, page: Page, forks: Mapping[str, int]) -> None:
        self._set_epoch(page.epoch, forks)
        self._skip_to(page.top)

    def _skip_to(self, top: int) -> None:
        self._changed = True
        self.top = top
        self._ring.clear()
        self._ring_bytes = 0

    def _add(self, seq: int, data: bytes) -> None:
        self._changed = True
        self.top = seq
        self._ring.append(RingEntry(seq, data))
        self._ring_bytes += len(data)

    def _trim(self) -> None:
        """Trim the ring to its bounds, rarely: removing from the front of a list moves the rest."""
        ring = self._ring
        if len(ring) <= RING_EVENTS + 64 and self._ring_bytes <= RING_BYTES:
            return
        cut = max(0, len(ring) - RING_EVENTS)
        freed = sum(len(entry.data) for entry in ring[:cut])
        while self._ring_bytes - freed > RING_BYTES and cut < len(ring):
            freed += len(ring[cut].data)
            cut += 1
        del ring[:cut]
        self._ring_bytes -= freed

    def _end(self) -> None:
        self._changed = self._changed or not self.gone
        self.gone, self.running = True, False


class _OpenTail:
    """A tail, the number of its readers, and its opening."""

    __slots__ = ("closing", "opening", "tail", "users")

    def __init__(self, tail: Tail, opening: asyncio.Task[None]) -> None:
        self.tail = tail
        self.opening = opening
        self.users = 0
        self.closing: asyncio.TimerHandle | None = None


class Hub:
    """All tails of this process over one pub/sub. Belongs to one event loop."""

    def __init__(self, log: Log, pubsub: PubSub) -> None:
        self._log = log
        self._pubsub = pubsub
        self._open_tails: dict[str, _OpenTail] = {}
        self._by_channel: dict[bytes, Tail] = {}
        self._changed: Callable[[str | None], None] | None = None

    async def start(self) -> None:
        """Start pub/sub."""
        await self._pubsub.start(self._receive, self._subscribed_again)

    async def aclose(self) -> None:
        """Close pub/sub and every tail; the caller closes the log."""
        for held in list(self._open_tails.values()):
            self._drop(held)
        await self._pubsub.aclose()

    async def open(self, conversation_id: str) -> Tail:
        """The conversation's tail, subscribed, with epoch and top known.

        Each `open` needs a `release`. A deleted conversation gives a tail that is `gone`. Raises
        LogUnavailable.
        """
        held = self._open_tails.get(conversation_id)
        if held is None:
            tail = Tail(conversation_id, self._log)
            held = self._open_tails[conversation_id] = _OpenTail(
                tail, asyncio.create_task(self._prepare(tail))
            )
            self._by_channel[keys.channel(conversation_id).encode()] = tail
        held.users += 1
        if held.closing is not None:
            held.closing.cancel()
            held.closing = None
        try:
            await asyncio.shield(held.opening)
        except BaseException as error:
            held.users -= 1
            if not isinstance(error, asyncio.CancelledError) or held.users == 0:
                self._drop(held)
            raise
        return held.tail

    def release(self, tail: Tail) -> None:
        """Release the result of `open`. The last release ends the subscription after a moment."""
        held = self._open_tails.get(tail.conversation_id)
        if held is None or held.tail is not tail:
            return
        held.users -= 1
        if held.users == 0:
            loop = asyncio.get_running_loop()
            held.closing = loop.call_later(0 if tail.gone else GRACE_SECONDS, self._drop, held)

    async def watch_changes(self, changed: Callable[[str | None], None]) -> None:
        """Call `changed` with the id of each changed conversation (keys.CHANGES).

        Returns once subscribed. After a break of the subscription, `changed` is called with None:
        any conversation may have changed. Raises LogUnavailable.
        """
        self._changed = changed
        await self._pubsub.subscribe(keys.CHANGES)

    async def _prepare(self, tail: Tail) -> None:
        await self._pubsub.subscribe(keys.channel(tail.conversation_id))
        try:
            await tail.refresh()
        except Gone:
            return  # the tail itself reports it

    def _drop(self, held: _OpenTail) -> None:
        conversation_id = held.tail.conversation_id
        if self._open_tails.get(conversation_id) is not held:
            return
        del self._open_tails[conversation_id]
        channel = keys.channel(conversation_id)
        del self._by_channel[channel.encode()]
        held.opening.cancel()
        held.tail.close()
        self._pubsub.unsubscribe(channel)

    def _receive(self, messages: list[tuple[bytes, bytes]]) -> None:
        # Writers publish their events together. The tail is woken once for all of them, and at
        # once, while it is in the processor's cache.
        last: Tail | None = None
        for channel, payload in messages:
            tail = self._by_channel.get(channel)
            if last is not None and tail is not last:
                last.wake()
            if tail is not None:
                tail.take(payload)
            elif channel == _CHANGES and self._changed is not None:
                self._changed(payload.decode())
            last = tail
        if last is not None:
            last.wake()

    def _subscribed_again(self, channel: bytes) -> None:
        tail = self._by_channel.get(channel)
        if tail is not None:
            tail.catch_up()
        elif channel == _CHANGES and self._changed is not None:
            self._changed(None)
