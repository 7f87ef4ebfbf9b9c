"""broadcaster/session.py, case by case: frames, deadlines, verdicts, heartbeats.
test_session_interleavings.py has the interleavings.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tokenwire.broadcaster.session import REFRESHES_PER_MINUTE, Phase, SocketSession
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import Chunk, Entry, encode, stamp
from tokenwire.protocol.frames import CONTROLS_PER_MINUTE, CloseCode
from tokenwire.protocol.tokens import mint
from tokenwire.streams.log.ports import Page

KEY = "0123456789abcdef0123456789abcdef"
NOW = 1_800_000_000.0


def token(conversation: str = "c", ttl: int = 600, now: float = NOW) -> str:
    return mint(KEY, conversation, "u", ttl, now)


def frame(type_: str, **fields: Any) -> str:
    return json.dumps({"type": type_, **fields})


def event(seq: int) -> Entry:
    return Entry(seq, stamp(seq, encode(Chunk("m", 1, seq - 1, "x", 0))))


@dataclass
class Ring:
    """A source with the events `oldest` .. `top`."""

    top: int = 0
    oldest: int = 1
    epoch: str = "e"
    gone: bool = False
    version: int = 1
    forks: Mapping[str, int] = field(default_factory=dict)

    @property
    def page(self) -> Page:
        return Page(self.epoch, self.oldest, self.top, None, [], self.forks)

    def since(self, after: int) -> Sequence[Entry] | None:
        return (
            [event(seq) for seq in range(after + 1, self.top + 1)]
            if self.oldest - 1 <= after <= self.top
            else None
        )


@dataclass
class Socket:
    """Takes `room` writes, then is full; `frames` are the written JSON objects."""

    room: int = 1_000
    frames: list[dict[str, Any]] = field(default_factory=list)

    def write(self, data: bytes) -> bool:
        self.frames += parse(data)
        self.room -= 1
        return self.room > 0


def parse(data: bytes) -> list[dict[str, Any]]:
    """The payloads of consecutive server frames."""
    found = []
    while data:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        elif size == 127:
            size, start = int.from_bytes(data[2:10]), 10
        found.append(json.loads(data[start : start + size]))
        data = data[start + size :]
    return found


def opened(after: str | None = None, ttl: int = 600) -> SocketSession:
    session = SocketSession("c", KEY, 30, NOW)
    session.receive(frame("subscribe", token=token(ttl=ttl), after=after), NOW)
    assert session.phase is Phase.OPENING
    return session


def following(after: str | None, ring: Ring) -> tuple[SocketSession, Socket]:
    session, socket = opened(after), Socket()
    first = session.open(ring.page, ring.version)
    assert first is not None
    socket.write(first)
    return session, socket


def code(session: SocketSession) -> CloseCode | None:
    return session.ending.code if session.ending else None


# Frames of the client


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"\x00\x01", CloseCode.MALFORMED),
        ("hello", CloseCode.MALFORMED),
        ("[" * 9000, CloseCode.MALFORMED),
        (frame("subscribe", token=token(), after=57), CloseCode.MALFORMED),
        (frame("subscribe", token=token(), after="nonsense"), CloseCode.MALFORMED),
        (frame("refresh", token=token()), CloseCode.MALFORMED),
        (frame("subscribe"), CloseCode.UNAUTHORIZED),
        (frame("subscribe", token=None), CloseCode.UNAUTHORIZED),
        (frame("subscribe", token="garbage"), CloseCode.UNAUTHORIZED),
        (frame("subscribe", token=token(now=NOW - 631)), CloseCode.UNAUTHORIZED),
        (frame("subscribe", token=token("other")), CloseCode.FORBIDDEN),
    ],
)
def test_a_wrong_first_frame_ends_with_its_code(said: str | bytes, expected: CloseCode) -> None:
    """Each fault of the first frame has its own close code."""
    session = SocketSession("c", KEY, 30, NOW)
    assert session.receive(said, NOW) is None
    assert code(session) is expected


def test_there_is_one_subscribe_frame() -> None:
    """A second one is malformed."""
    session = opened()
    session.receive(frame("subscribe", token=token()), NOW)
    assert code(session) is CloseCode.MALFORMED


@pytest.mark.parametrize(("later", "expected"), [(9.9, None), (10.0, CloseCode.LATE)])
def test_ten_seconds_to_subscribe(later: float, expected: CloseCode | None) -> None:
    """The first frame is due within 10 s of connecting."""
    session = SocketSession("c", KEY, 30, NOW)
    assert session.deadline == NOW + 10
    session.expire(NOW + later)
    assert code(session) is expected


@pytest.mark.parametrize("phase", [Phase.OPENING, Phase.REPLAY, Phase.LIVE])
def test_an_expired_authorisation_ends_the_reader(phase: Phase) -> None:
    """30 s after the token's expiry: 4401, even during a replay."""
    session = opened("e:0", ttl=60)
    if phase is not Phase.OPENING:
        session.open(Page("e", 1, 9, None), 1)
    if phase is Phase.LIVE:
        session.advance(Ring(top=9), Socket().write)
    assert session.phase is phase
    assert session.deadline == NOW + 90
    session.expire(NOW + 89.9)
    assert session.ending is None
    session.expire(NOW + 90)
    assert code(session) is CloseCode.UNAUTHORIZED


def test_a_refresh_extends_the_authorisation() -> None:
    """The answer has the new expiry; an older token shortens nothing."""
    session = opened(ttl=60)
    answer = session.receive(frame("refresh", token=token(ttl=600, now=NOW + 50)), NOW + 50)
    assert answer is not None
    assert parse(answer) == [{"type": "refreshed", "expires_in": 600}]
    answer = session.receive(frame("refresh", token=token(ttl=60, now=NOW + 50)), NOW + 50)
    assert answer is not None
    assert parse(answer) == [{"type": "refreshed", "expires_in": 600}]
    session.expire(NOW + 679)
    assert session.ending is None


@pytest.mark.parametrize(
    ("bad", "expected"),
    [("garbage", CloseCode.UNAUTHORIZED), (token("other"), CloseCode.FORBIDDEN)],
)
def test_a_bad_refresh_ends_the_reader(bad: str, expected: CloseCode) -> None:
    """It is checked like a subscribe."""
    session = opened()
    assert session.receive(frame("refresh", token=bad), NOW) is None
    assert code(session) is expected


def test_too_many_refreshes_a_minute() -> None:
    """20 a minute are accepted, the 21st is 4429; a new minute starts at zero."""
    session = opened()
    for _ in range(REFRESHES_PER_MINUTE):
        assert session.receive(frame("refresh", token=token()), NOW)
    for _ in range(REFRESHES_PER_MINUTE):
        assert session.receive(frame("refresh", token=token()), NOW + 60)
    session.receive(frame("refresh", token=token()), NOW + 119)
    assert code(session) is CloseCode.TOO_MANY


def test_too_many_pings_a_minute() -> None:
    """Control frames have their own, larger limit; a new minute starts at zero."""
    session = opened()
    for minute in (0, 60, 120):
        for _ in range(CONTROLS_PER_MINUTE):
            session.control(NOW + minute)
    assert session.ending is None
    session.control(NOW + 179)
    assert code(session) is CloseCode.TOO_MANY


# The beginning


@pytest.mark.parametrize(
    ("after", "reason"), [("f:5", "epoch"), ("e:10", "ahead"), ("e:2", "trimmed")]
)
def test_a_lost_cursor_gets_only_a_resync(after: str, reason: str) -> None:
    """No `subscribed`, no event: the resync frame, then 4410."""
    session = opened(after)
    assert session.open(Page("e", 4, 9, None), 1) is None
    assert session.ending is not None
    assert (session.ending.code, session.ending.detail) == (CloseCode.RESYNC, reason)
    assert parse(session.ending.last or b"") == [{"type": "resync", "reason": reason}]


def test_from_a_cursor() -> None:
    """subscribed (the present top), the events after the cursor, live (the last replayed one)."""
    ring = Ring(top=3)
    session, socket = following("e:1", ring)
    assert not session.advance(ring, socket.write)
    assert [(f["type"], f["seq"]) for f in socket.frames] == [
        ("subscribed", 3),
        ("chunk", 2),
        ("chunk", 3),
        ("live", 3),
    ]
    assert socket.frames[0] == {
        "type": "subscribed",
        "epoch": "e",
        "seq": 3,
        "heartbeat_seconds": 30,
        "version": 1,
    }
    assert session.phase is Phase.LIVE


def test_from_now_on() -> None:
    """Without a cursor nothing is replayed."""
    ring = Ring(top=3)
    session, socket = following(None, ring)
    session.advance(ring, socket.write)
    assert [(f["type"], f["seq"]) for f in socket.frames] == [("subscribed", 3), ("live", 3)]


@pytest.mark.parametrize(
    ("after", "ring", "held"),
    [
        (None, Ring(top=9), True),
        ("e:5", Ring(top=9), True),
        ("e:9", Ring(top=9), True),
        ("e:10", Ring(top=9), False),
        ("f:5", Ring(top=9), False),
        ("e:2", Ring(top=9, oldest=6), False),
    ],
)
def test_when_redis_need_not_be_asked(after: str | None, ring: Ring, held: bool) -> None:
    """Only for a cursor that the ring reaches: a later or foreign one may be newer than this
    process.
    """
    assert opened(after).confirmed_by(ring) is held


# The events


def test_events_before_the_ring_are_read() -> None:
    """Older events come from the log, then the ring takes over, and `live` waits for all of
    them.
    """
    ring = Ring(top=9, oldest=6)
    session, socket = following("e:1", Ring(top=9))
    assert session.advance(ring, socket.write)
    session.write_page(Page("e", 1, 9, None, [event(seq) for seq in range(2, 8)]), socket.write)
    assert session.phase is Phase.REPLAY
    assert not session.advance(ring, socket.write)
    assert [f["seq"] for f in socket.frames] == [9, 2, 3, 4, 5, 6, 7, 8, 9, 9]


def test_live_waits_for_events_that_this_process_lacks() -> None:
    """The log was at 5 when the cursor was checked: a tail at 3 is not the tip."""
    ring = Ring(top=3)
    session, socket = following("e:1", Ring(top=5))
    assert session.advance(ring, socket.write)
    session.write_page(Page("e", 1, 5, None, [event(4), event(5)]), socket.write)
    assert not session.advance(ring, socket.write)
    assert [(f["type"], f["seq"]) for f in socket.frames[1:]] == [
        ("chunk", 2),
        ("chunk", 3),
        ("chunk", 4),
        ("chunk", 5),
        ("live", 5),
    ]
    ring.top = 6
    session.advance(ring, socket.write)
    assert socket.frames[-1]["seq"] == 6


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page("f", 1, 9, None), "epoch"),
        (Page("e", 5, 9, None), "trimmed"),
        (Page("e", 1, 9, None, [event(4)]), "trimmed"),
        (Page("e", 1, 9, None, []), "trimmed"),
    ],
)
def test_a_page_that_does_not_follow_is_a_resync(page: Page, reason: str) -> None:
    """A fragment is never taken for the whole."""
    ring = Ring(top=9, oldest=8)
    session, socket = following("e:1", Ring(top=9))
    assert session.advance(ring, socket.write)
    session.write_page(page, socket.write)
    assert code(session) is CloseCode.RESYNC
    assert session.ending is not None
    assert session.ending.detail == reason
    assert len(socket.frames) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"epoch": "f"}, CloseCode.RESYNC), ({"gone": True}, CloseCode.DELETED)],
)
def test_a_new_epoch_and_a_deletion_end_a_live_reader(
    change: dict[str, Any], expected: CloseCode
) -> None:
    """Nothing that follows is sent."""
    ring = Ring(top=3)
    session, socket = following(None, ring)
    session.advance(ring, socket.write)
    sent = len(socket.frames)
    ring.top = 4
    for name, value in change.items():
        setattr(ring, name, value)
    assert not session.advance(ring, socket.write)
    assert code(session) is expected
    assert len(socket.frames) == sent


def test_a_fork_after_the_cursor_is_announced_first() -> None:
    """`subscribed` with the new name, the events, `live` again; the cursor's offset stays."""
    ring = Ring(top=3)
    session, socket = following(None, ring)
    session.advance(ring, socket.write)
    sent = len(socket.frames)
    ring.epoch, ring.version, ring.forks, ring.top = "f", 2, {"e": 3}, 4
    assert not session.advance(ring, socket.write)
    assert [(f["type"], f.get("epoch"), f["seq"]) for f in socket.frames[sent:]] == [
        ("subscribed", "f", 4),
        ("chunk", None, 4),
        ("live", "f", 4),
    ]
    assert session.cursor == Cursor("f", 4)


def test_a_fork_before_the_reader_is_a_resync() -> None:
    """It has seen what is lost."""
    ring = Ring(top=3)
    session, socket = following(None, ring)
    session.advance(ring, socket.write)
    ring.epoch, ring.version, ring.forks = "f", 2, {"e": 2}
    session.advance(ring, socket.write)
    assert code(session) is CloseCode.RESYNC


@pytest.mark.parametrize(
    ("after", "served"),
    [("e:4", True), ("e:5", False), ("d:2", True), ("d:3", False), ("c:1", False)],
)
def test_a_cursor_of_an_earlier_epoch_is_valid_up_to_its_fork(after: str, served: bool) -> None:
    """Whether the log is asked or the ring knows."""
    ring = Ring(top=9, oldest=1, epoch="f", forks={"e": 4, "d": 2})
    session = opened(after)
    assert session.confirmed_by(ring) is served
    assert (session.open(ring.page, ring.version) is not None) is served


def test_a_log_set_back_under_its_old_name() -> None:
    """The tail's forks say so: a reader that has seen more starts over, another continues
    silently.
    """
    ring = Ring(top=9)
    ahead, socket = following("e:9", ring)
    behind, other = following("e:2", Ring(top=2))
    ring.top, ring.forks, ring.version = 5, {"e": 5}, 2
    ahead.advance(ring, socket.write)
    behind.advance(ring, other.write)
    assert (code(ahead), code(behind)) == (CloseCode.RESYNC, None)
    assert [f["type"] for f in other.frames] == ["subscribed", "chunk", "chunk", "chunk", "live"]


def test_the_fast_path_is_for_readers_at_the_tip() -> None:
    """`takes` refuses during a replay, at another seq, after a stall, and after the end."""
    ring = Ring(top=3)
    session, socket = following("e:1", ring)
    assert not session.takes(1, 2)
    session.advance(ring, socket.write)
    assert not session.takes(2, 3)
    assert session.takes(3, 4)
    assert session.seq == 4
    session.stall()
    assert not session.takes(4, 5)
    ring.top = 4
    session.advance(ring, socket.write)
    assert session.takes(4, 6)
    session.end(CloseCode.RESTART, "shutdown")
    assert not session.takes(6, 7)
    assert session.seq == 6


def test_a_slow_reader_gets_merged_chunks_until_the_tip() -> None:
    """After a full socket neighbouring chunks are one event; at the tip they are single again."""
    ring = Ring(top=0)
    session, socket = following(None, ring)
    session.advance(ring, socket.write)
    session.stall()
    ring.top = 50
    session.advance(ring, socket.write)
    assert [(f["seq"], f.get("from_seq")) for f in socket.frames[2:]] == [(50, 1)]
    ring.top = 52
    session.advance(ring, socket.write)
    assert [(f["seq"], f.get("from_seq")) for f in socket.frames[3:]] == [(51, None), (52, None)]


def test_a_full_socket_stops_the_replay_at_the_cursor() -> None:
    """Written events count, the rest waits."""
    ring = Ring(top=1000)
    session, _ = following("e:0", ring)
    socket = Socket(room=1)
    assert not session.advance(ring, socket.write)
    assert session.seq == len(socket.frames) < 1000
    assert session.slow
    assert session.phase is Phase.REPLAY


# Heartbeats


def test_a_heartbeat_carries_the_cursor() -> None:
    """Events after the read of the top are in the socket too: the client has them."""
    ring = Ring(top=3)
    session, socket = following(None, ring)
    session.advance(ring, socket.write)
    for top in (3, 2):
        beat = session.heartbeat(Page("e", 1, top, None))
        assert beat is not None
        assert parse(beat) == [{"type": "heartbeat", "epoch": "e", "seq": 3}]


def stalled(session: SocketSession) -> None:
    session.stall()


@pytest.mark.parametrize(
    ("prepare", "top"), [(stalled, 3), (lambda _: None, 4)], ids=["stalled", "behind the log"]
)
def test_no_heartbeat_before_everything_was_written(
    prepare: Callable[[SocketSession], None], top: int
) -> None:
    """Neither for a lagging reader nor for an undelivered top; missing events are then read."""
    ring = Ring(top=3)
    session, socket = following(None, ring)
    session.advance(ring, socket.write)
    prepare(session)
    assert session.heartbeat(Page("e", 1, top, None)) is None
    assert session.ending is None
    assert session.advance(ring, socket.write) is (top > ring.top)


def test_no_heartbeat_during_a_replay() -> None:
    """A heartbeat comes after `live`."""
    session, _ = following("e:1", Ring(top=3))
    assert session.heartbeat(Page("e", 1, 3, None)) is None


def test_a_heartbeat_that_finds_another_epoch_is_a_resync() -> None:
    """Redis lost its data: the cursor is void."""
    ring = Ring(top=3)
    session, socket = following(None, ring)
    session.advance(ring, socket.write)
    assert session.heartbeat(Page("f", 1, 3, None)) is None
    assert session.behind, "or nobody looks"
    ring.epoch, ring.version = "f", 2
    session.advance(ring, socket.write)
    assert code(session) is CloseCode.RESYNC


# The end


def test_after_the_end_nothing_changes() -> None:
    """The first end counts, and no input has an effect."""
    ring = Ring(top=3)
    session, socket = following("e:1", ring)
    session.end(CloseCode.RESTART, "shutdown")
    ending, sent = session.ending, len(socket.frames)
    assert session.receive("garbage", NOW) is None
    session.expire(NOW + 9999)
    session.end(CloseCode.DELETED, "later")
    assert not session.advance(ring, socket.write)
    session.write_page(Page("f", 1, 9, None), socket.write)
    assert session.heartbeat(Page("e", 1, 3, None)) is None
    assert session.open(Page("e", 1, 3, None), 1) is None
    assert session.ending is ending
    assert len(socket.frames) == sent
