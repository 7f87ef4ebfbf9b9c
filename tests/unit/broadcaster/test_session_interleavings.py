"""broadcaster/session.py under every interleaving that Hypothesis finds.

A log that grows, is trimmed and starts new epochs; a tail that follows it late, with a ring that
forgets; a socket that fills up; page reads that return after other events; a client, written from
PROTOCOL.md alone, that loses its connection anywhere and resumes by cursor. Claims: each event once
and in order, or a resync; no `live` before everything before it; a heartbeat only for what it
holds; and in the end it holds what the log holds.
"""

import json
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.examples import many
from tests.unit.broadcaster.test_session import KEY, NOW, parse
from tokenwire.broadcaster.session import Phase, SocketSession
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Chunk, Entry, Start, encode, stamp
from tokenwire.protocol.frames import CloseCode
from tokenwire.protocol.tokens import mint
from tokenwire.streams.log.ports import Page

PAGE = 3
ROOM = 4
RARELY = st.sampled_from([False, False, False, True])
"""Steps that undo progress are rarer than those that make it, or no deep state is reached."""
TOKEN = mint(KEY, "c", "u", 600, NOW)


class Log:
    """The truth: the contents of Redis."""

    def __init__(self) -> None:
        self.life = 0
        self.entries: list[Entry] = []
        self.oldest = 1
        self.forks: dict[str, int] = {}

    @property
    def epoch(self) -> str:
        return f"e{self.life}"

    @property
    def top(self) -> int:
        return len(self.entries)

    def append(self, chunk: bool) -> None:
        seq = self.top + 1
        event = Chunk("m", 1, seq * 2, "ab", 0) if chunk else Start("m", 1, "model")
        self.entries.append(Entry(seq, stamp(seq, encode(event))))

    def fork(self, lost: int) -> None:
        del self.entries[max(0, self.top - lost) :]
        self.oldest = min(self.oldest, self.top + 1)
        self.forks = {
            epoch: min(seq, self.top) for epoch, seq in {**self.forks, self.epoch: self.top}.items()
        }
        self.life += 1

    def look(self) -> Page:
        return Page(self.epoch, self.oldest, self.top, None, [], self.forks)

    def read(self, cursor: Cursor, limit: int) -> Page:
        page, after = self.look(), cursor.seq
        shared = page.shared(cursor.epoch)
        if shared is not None and after <= shared and self.oldest - 1 <= after:
            page.entries.extend(self.entries[after : after + limit])
        return page


class Tail:
    """This process's view of the log: contiguous, late and forgetful."""

    gone = False

    def __init__(self, log: Log) -> None:
        self.log = log
        self.version = 0
        self.top = self.ring = 0
        self.turn()

    def turn(self) -> None:
        """Read the log from its top, and keep the held part if it fits."""
        known = (
            self.top
            if self.version and self.top <= self.log.forks.get(self.epoch, -1)
            else self.log.top
        )
        self.known, self.epoch, self.forks = list(self.log.entries), self.log.epoch, self.log.forks
        self.ring = min(self.ring, known) if known == self.top else known
        self.top = known
        self.version += 1

    def hear(self, count: int) -> None:
        """Receive up to `count` more events, or the news of another epoch."""
        if self.epoch != self.log.epoch:
            self.turn()
        else:
            self.known = list(self.log.entries)
            self.top = min(self.top + count, self.log.top)

    def since(self, after: int) -> Sequence[Entry] | None:
        return self.known[after : self.top] if self.ring <= after <= self.top else None


class Client:
    """Follows PROTOCOL.md, section 4. `held`: the seq up to which it has everything (by events or a
    snapshot).
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.snapshot()
        self.live = self.subscribed = False

    def snapshot(self) -> None:
        self.epoch, self.held = self.log.epoch, self.log.top

    def connect(self) -> str:
        self.live = self.subscribed = False
        return f"{self.epoch}:{self.held}"

    def take(self, frame: dict[str, object]) -> None:
        kind, seq = frame["type"], frame.get("seq")
        if kind in {"live", "heartbeat"}:
            assert frame["epoch"] == self.epoch
        if kind == "subscribed":
            assert not self.subscribed or frame["epoch"] != self.epoch
            self.epoch, self.live = str(frame["epoch"]), False
            self.subscribed, self.promised = True, seq
        elif kind == "live":
            assert self.subscribed
            assert not self.live
            assert seq == self.held
            assert isinstance(self.promised, int)
            assert self.held >= self.promised
            self.live = True
        elif kind == "heartbeat":
            assert self.live
            assert seq == self.held
        elif kind == "resync":
            self.snapshot()
        else:
            self.event(frame)

    def event(self, frame: dict[str, object]) -> None:
        assert self.subscribed
        seq = frame["seq"]
        assert isinstance(seq, int)
        first = frame.get("from_seq", seq)
        assert first == self.held + 1
        if self.epoch == self.log.epoch:
            truth = [json.loads(entry.data) for entry in self.log.entries[self.held : seq]]
            assert all(event["type"] == frame["type"] for event in truth)
            assert "".join(event.get("content", "") for event in truth) == frame.get("content", "")
            assert truth[0].get("offset") == frame.get("offset")
        self.held = seq


class Interleavings(RuleBasedStateMachine):
    """The server's loop reduced to its timing: when something happens."""

    @initialize(events=st.integers(0, 8))
    def begin(self, events: int) -> None:
        self.log = Log()
        for _ in range(events):
            self.log.append(True)
        self.tail = Tail(self.log)
        self.client = Client(self.log)
        self.seen: Page | None = None
        self.connect()

    def connect(self) -> None:
        self.wire: list[dict[str, object]] = []
        self.asked = False
        self.page: Page | None = None
        self.session = SocketSession("c", KEY, 30, NOW)
        self.session.receive(
            json.dumps({"type": "subscribe", "token": TOKEN, "after": self.client.connect()}), NOW
        )

    def write(self, data: bytes) -> bool:
        self.wire += parse(data)
        return len(self.wire) < ROOM

    def send_more(self) -> None:
        if self.asked or self.session.phase not in {Phase.REPLAY, Phase.LIVE}:
            return
        if len(self.wire) >= ROOM:
            self.session.stall()
        else:
            self.asked = self.session.advance(self.tail, self.write)

    # The world

    @rule(chunks=st.lists(st.sampled_from([True, True, True, False]), min_size=1, max_size=12))
    def append(self, chunks: list[bool]) -> None:
        for chunk in chunks:
            self.log.append(chunk)

    @rule(keep=st.integers(0, 5), now=RARELY)
    def trim(self, keep: int, now: bool) -> None:
        if not now:
            return
        self.log.oldest = max(self.log.oldest, self.log.top - keep + 1)

    @rule(events=st.integers(0, 5), now=RARELY)
    def redis_is_lost(self, events: int, now: bool) -> None:
        if not now:
            return
        self.log.life += 1
        self.log.entries, self.log.oldest, self.log.forks = [], 1, {}
        for _ in range(events):
            self.log.append(True)

    @rule(lost=st.integers(0, 6), now=RARELY)
    def redis_forks(self, lost: int, now: bool) -> None:
        if now:
            self.log.fork(lost)

    # This process

    @rule(count=st.integers(1, 12))
    def hear(self, count: int) -> None:
        before, epoch = self.tail.top, self.tail.epoch
        self.tail.hear(count)
        entries = self.tail.since(before) if epoch == self.tail.epoch else None
        if entries and len(self.wire) < ROOM and self.session.takes(before, self.tail.top):
            for entry in entries:  # the fast path of the server
                self.wire.append(json.loads(entry.data))
        else:
            self.send_more()

    @rule(now=RARELY)
    def ring_forgets(self, now: bool) -> None:
        if now:
            self.tail.ring = self.tail.top

    @precondition(lambda self: self.session.phase is Phase.OPENING)
    @rule(heard=st.booleans())
    def open(self, heard: bool) -> None:
        if self.session.confirmed_by(self.tail):
            frame = self.session.open(
                Page(self.tail.epoch, 0, self.tail.top, None, [], self.tail.forks),
                self.tail.version,
            )
        else:  # Redis is asked; this process may or may not know its answer by then
            if heard:
                self.tail.hear(0)
                self.tail.hear(1_000)
            frame = self.session.open(self.log.look(), self.tail.version)
        if frame:
            self.write(frame)
        self.send_more()

    @precondition(lambda self: self.asked and self.page is None)
    @rule()
    def redis_answers(self) -> None:
        self.page = self.log.read(self.session.cursor, PAGE)
        if self.page.epoch != self.tail.epoch:
            self.tail.turn()

    @precondition(lambda self: self.page is not None)
    @rule()
    def page_arrives(self) -> None:
        assert self.page is not None
        page, self.page, self.asked = self.page, None, False
        self.session.write_page(page, self.write)
        self.send_more()

    @rule()
    def ask_for_the_top(self) -> None:
        self.seen = self.log.look()

    @precondition(lambda self: self.seen is not None)
    @rule()
    def beat(self) -> None:
        assert self.seen is not None
        page, self.seen = self.seen, None
        frame = self.session.heartbeat(page) if len(self.wire) < ROOM else None
        if frame:
            assert self.session.seq >= page.top
            self.write(frame)
        else:
            self.send_more()

    # The client

    @rule(count=st.integers(1, 6))
    def read(self, count: int) -> None:
        for frame in self.wire[:count]:
            self.client.take(frame)
        del self.wire[:count]
        self.send_more()

    @rule(now=RARELY, reload=st.booleans())
    def drop_and_reconnect(self, now: bool, reload: bool) -> None:
        if now:
            if reload:  # the page was reloaded: a snapshot can be ahead of this process
                self.client.snapshot()
            self.connect()

    @precondition(lambda self: self.session.ending is not None)
    @rule()
    def closed(self) -> None:
        ending = self.session.ending
        assert ending is not None
        assert ending.code is CloseCode.RESYNC
        for frame in self.wire + parse(ending.last or b""):
            self.client.take(frame)
        self.connect()

    @invariant()
    def at_the_tip_means_written(self) -> None:
        """A session that is live and not behind has every received event."""
        if (
            hasattr(self, "session")
            and self.session.phase is Phase.LIVE
            and not self.session.behind
            and self.tail.epoch == self.session.epoch
        ):
            assert self.session.seq >= self.tail.top

    def teardown(self) -> None:
        """At the end the client is live and holds everything."""
        if not hasattr(self, "log"):
            return
        for _ in range(500):
            if self.session.phase is Phase.OPENING:
                self.open(True)
            if self.asked and self.page is None:
                self.redis_answers()
            if self.page is not None:
                self.page_arrives()
            self.hear(5)
            self.read(5)
            if self.session.ending:
                self.closed()
            if (
                self.session.phase is Phase.LIVE
                and not self.session.behind
                and not self.wire
                and self.client.held == self.log.top
            ):
                break
        assert self.client.live
        assert (self.client.epoch, self.client.held) == (self.log.epoch, self.log.top)


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=many(300), stateful_step_count=60, deadline=None)
