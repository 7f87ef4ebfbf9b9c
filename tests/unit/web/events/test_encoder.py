"""web.events.encoder: its text as a client by the HTML standard reads it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.eventsource import Event, Parser
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import (
    Chunk,
    Complete,
    Entry,
    Error,
    MessageEvent,
    Start,
    Title,
    encode,
    stamp,
)
from tokenwire.web.events import encoder as sse


def entry(seq: int, content: str = "x", message: str = "m") -> Entry:
    return Entry(seq, stamp(seq, encode(Chunk(message, 1, seq - 1, content, 0))))


def parsed(text: bytes) -> list[Event]:
    return Parser().push(text)


def test_an_event_is_relayed_byte_for_byte() -> None:
    """With its cursor as id, and no name: an `error` event is a message like any other."""
    data = stamp(7, encode(Error("m", 1, "unavailable", "No.", True, None, 0, 0, 0, 0)))
    assert sse.event("k3f9", Entry(7, data)) == b"id: k3f9:7\ndata: " + data + b"\n\n"
    assert parsed(sse.event("k3f9", Entry(7, data))) == [Event("message", data.decode(), "k3f9:7")]


@given(st.text())
def test_no_text_breaks_a_block(content: str) -> None:
    """Line ends of every kind, colons, NUL: one block stays one event."""
    first, second = Entry(1, stamp(1, encode(Chunk("m", 1, 0, content, 0)))), entry(2)
    heard = parsed(sse.event("e", first) + sse.event("e", second))
    assert [event.data for event in heard] == [first.data.decode(), second.data.decode()]
    assert heard[0].json["content"] == content


def test_the_opening_sets_cursor_and_delay() -> None:
    """It is no event. A reader without a cursor returns to its start."""
    parser = Parser()
    assert parser.push(sse.opening(1234, Cursor("e", 5))) == []
    assert (parser.last_event_id, parser.retry_ms) == ("e:5", 1234)
    kept = Parser("e:9")
    kept.push(sse.opening(1234))
    assert kept.last_event_id == "e:9"


def test_other_blocks_leave_the_cursor_alone() -> None:
    """resync, deleted, comments."""
    parser = Parser("e:9")
    heard = parser.push(sse.resync("trimmed") + sse.deleted() + sse.comment("heartbeat"))
    assert [event.json for event in heard] == [
        {"type": "resync", "reason": "trimmed"},
        {"type": "deleted"},
    ]
    assert (parser.last_event_id, parser.comments) == ("e:9", ["heartbeat"])


@pytest.mark.parametrize(
    ("last_event_id", "after", "expected"),
    [
        (None, None, None),
        ("", "", None),
        ("", "e:1", Cursor("e", 1)),
        (None, "e:1", Cursor("e", 1)),
        ("e:2", "e:1", Cursor("e", 2)),
        ("e:2", "nonsense", Cursor("e", 2)),
    ],
)
def test_the_last_event_id_wins(
    last_event_id: str | None, after: str | None, expected: Cursor | None
) -> None:
    """An empty one counts as absent: an EventSource without one sends none."""
    assert sse.cursor(last_event_id, after) == expected


@pytest.mark.parametrize(
    "text", ["5", "e:", ":5", "e:-1", "e:05", "e:5 ", "e:5\n", "e:" + "9" * 17, "ä:1", "e:１"]
)
def test_a_malformed_cursor_is_refused(text: str) -> None:
    """In any parameter."""
    with pytest.raises(ValueError):
        sse.cursor(text, None)
    with pytest.raises(ValueError):
        sse.cursor(None, text)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Start("m", 1, "model"), True),
        (Start("other", 1, "m"), False),
        (MessageEvent({"id": "m", "content": "x"}), True),
        (MessageEvent({"id": "other", "parent_id": "m"}), False),
        (Title("m", 2), False),
        (Complete("m", 1, "stop", None, 0, 0, [], 0, 0), True),
    ],
)
def test_events_of_a_message(
    event: Start | MessageEvent | Title | Complete, expected: bool
) -> None:
    """Its answer and its row, and nothing that merely looks like them."""
    assert sse.concerns(stamp(3, encode(event)), "m") is expected


def test_one_message_of_a_conversation() -> None:
    """Others are left out, seqs keep their numbers, and the heartbeat moves the cursor past
    them.
    """
    encoder = sse.EventEncoder("m")
    parser = Parser()
    heard = parser.push(
        encoder.events("e", [entry(1), entry(2, message="n"), entry(3), entry(4, message="n")])
    )
    assert [event.json["seq"] for event in heard] == [1, 3]
    assert parser.push(encoder.heartbeat(Cursor("e", 4))) == []
    assert parser.last_event_id == "e:4"
    assert encoder.heartbeat(Cursor("e", 4)) == sse.comment("heartbeat")
    assert encoder.events("e", [entry(5, message="n")]) == b""


def test_a_heartbeat_that_moves_nothing_is_only_a_comment() -> None:
    """Also if the log cannot be read."""
    encoder = sse.EventEncoder()
    encoder.events("e", [entry(1)])
    assert encoder.heartbeat(Cursor("e", 1)) == encoder.heartbeat(None) == b": heartbeat\n\n"


def test_the_opening_s_cursor_is_not_repeated() -> None:
    """The first heartbeat at the same cursor moves nothing."""
    encoder = sse.EventEncoder()
    encoder.opening(1000, Cursor("e", 4))
    assert encoder.heartbeat(Cursor("e", 4)) == sse.comment("heartbeat")


def test_a_reader_that_fell_behind_gets_merged_chunks() -> None:
    """The id is that of the last event, so that it resumes after all of them."""
    text = sse.EventEncoder().events(
        "e", [entry(1, "a"), entry(2, "b"), entry(3, "c")], merged=True
    )
    (event,) = parsed(text)
    assert event.last_event_id == "e:3"
    assert (event.json["from_seq"], event.json["seq"], event.json["content"]) == (1, 3, "abc")


def test_a_block_can_be_cached() -> None:
    """The caller's cache is asked once per sent event."""
    asked: list[int] = []

    def block(epoch: str, given: object) -> bytes:
        asked.append(json.loads(given.data)["seq"])  # type: ignore[attr-defined]  # an Entry
        return b"kept"

    assert (
        sse.EventEncoder("m", block).events("e", [entry(1), entry(2, message="n"), entry(3)])
        == b"keptkept"
    )
    assert asked == [1, 3]
