"""protocol/frames.py: frames in both directions, close codes, merging."""

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tokenwire.config.settings import ROOT
from tokenwire.protocol import frames
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.events import (
    Chunk,
    Complete,
    Entry,
    PartEvent,
    Reasoning,
    ToolInput,
    encode,
    stamp,
)
from tokenwire.protocol.frames import (
    Advice,
    CloseCode,
    Malformed,
    Refresh,
    Subscribe,
    merge,
    parse_client,
    text_frame,
)
from tokenwire.protocol.text import utf16_length


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_a_text_frame_is_what_the_library_would_send(length: int) -> None:
    """All three length forms of RFC 6455 agree with websockets."""
    payload = b"x" * length
    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (
            frames.subscribed("k3f9", 57, 30),
            {
                "type": "subscribed",
                "epoch": "k3f9",
                "seq": 57,
                "heartbeat_seconds": 30,
                "version": 1,
            },
        ),
        (frames.live("k3f9", 57), {"type": "live", "epoch": "k3f9", "seq": 57}),
        (frames.heartbeat("k3f9", 61), {"type": "heartbeat", "epoch": "k3f9", "seq": 61}),
        (frames.resync("trimmed"), {"type": "resync", "reason": "trimmed"}),
        (frames.refreshed(600), {"type": "refreshed", "expires_in": 600}),
    ],
)
def test_control_frames_are_those_of_the_protocol(payload: bytes, expected: dict[str, Any]) -> None:
    """Field by field."""
    assert json.loads(payload) == expected


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ('{"type":"subscribe","token":"t","after":"k3f9:57"}', Subscribe("t", Cursor("k3f9", 57))),
        ('{"type":"subscribe","token":"t","after":null}', Subscribe("t", None)),
        ('{"token":"t","type":"subscribe"}', Subscribe("t", None)),
        ('{"type":"subscribe"}', Subscribe(None, None)),
        ('{"type":"subscribe","token":"t","colour":{"a":[1]}}', Subscribe("t", None)),
        ('{"type":"subscribe","token":"s","token":"t"}', Subscribe("t", None)),
        (' {"type":"refresh","token":"t"}\n', Refresh("t")),
    ],
)
def test_client_frames_are_read_with_tolerance(frame: str, expected: Subscribe | Refresh) -> None:
    """Missing, unknown and repeated fields are accepted."""
    assert parse_client(frame) == expected


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "hello",
        "null",
        "[]",
        "{}",
        '"subscribe"',
        '{"type":"publish","token":"t"}',
        '{"type":7}',
        '{"type":"subscribe","token":5}',
        '{"type":"subscribe","token":"t","after":57}',
        '{"type":"subscribe","token":"t","after":"57"}',
        '{"type":"subscribe","token":"t","after":"k3f9:-1"}',
        '{"type":"subscribe","token":"t","after":"k3f9:007"}',
        '{"type":"subscribe","token":"t"',
        '{"type":"refresh","token":["t"]}',
        "[" * 8000,
        "\ud800",
        json.dumps({"type": "subscribe", "token": "t" * 8192}),
        b'{"type":"subscribe","token":"t"}',
    ],
)
def test_anything_else_is_malformed(frame: str | bytes) -> None:
    """Wrong types, broken JSON, unknown types, binary and oversized frames raise one exception that
    quotes nothing of the frame.
    """
    with pytest.raises(Malformed) as caught:
        parse_client(frame)
    assert str(caught.value) in {
        "binary frame",
        "frame over 8 KiB",
        "not a subscribe or refresh frame",
    }


@given(st.one_of(st.text(max_size=200), st.binary(max_size=50)))
def test_no_input_escapes_as_another_error(frame: str | bytes) -> None:
    """Parsing a client's frame gives a frame or raises Malformed."""
    with contextlib.suppress(Malformed):
        parse_client(frame)


_IN_WORDS = {
    Advice.RECONNECT: "reconnect with your cursor, after 0 to 3 s at random",
    Advice.BACK_OFF: "reconnect with back-off",
    Advice.NEW_TOKEN: "get a new token, reconnect with your cursor",
    Advice.RESYNC: "after 0 to 2 s at random, read the conversation, reconnect with its cursor",
    Advice.STOP: "stop",
}


def test_every_close_code_has_its_advice() -> None:
    """The code's table equals the protocol's."""
    text = (ROOT / "PROTOCOL.md").read_text().split("| close code |")[1].split("Back-off:")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:4]] for line in text.splitlines()[2:]]
    written = {
        int(code): advice.partition(":")[0]
        for codes, _, advice in (row for row in rows if len(row) == 3)
        for code in re.findall(r"\d{4}", codes)
    }
    assert written == {int(code): _IN_WORDS[code.advice] for code in CloseCode}


def test_every_close_code_has_a_vector() -> None:
    """Other clients follow the vectors: they say the same as the code's table."""
    vectors = json.loads((ROOT / "protocol/vectors/closes/closes.json").read_text())["cases"]
    found = {case["code"]: (case["then"], case["longest_ms"]["0"] / 1000) for case in vectors}
    assert {int(code): found[code] for code in CloseCode} == {
        int(code): (
            code.advice.then,
            0.5 if code.advice.within_seconds is None else code.advice.within_seconds,
        )
        for code in CloseCode
    }


# Merging


def chunk(
    seq: int,
    offset: int,
    content: str,
    *,
    message: str = "m",
    attempt: int = 1,
    kind: type[Chunk | Reasoning] = Chunk,
) -> Entry:
    return Entry(seq, stamp(seq, encode(kind(message, attempt, offset, content, 0))))


def other(seq: int) -> Entry:
    return Entry(seq, stamp(seq, encode(PartEvent("m", 1, 0, {"type": "step"}))))


def test_neighbouring_chunks_become_one() -> None:
    """`seq` is the last one, `from_seq` the first, `offset` that of the first piece."""
    [merged] = merge([chunk(4, 10, "Hel"), chunk(5, 13, "lo "), chunk(6, 16, "you")])
    assert merged.seq == 6
    assert json.loads(merged.data) == {
        "seq": 6,
        "from_seq": 4,
        "type": "chunk",
        "message_id": "m",
        "attempt": 1,
        "offset": 10,
        "content": "Hello you",
        "part": 0,
    }


def test_reasoning_is_merged_by_itself() -> None:
    """Chunk and reasoning never become one event."""
    merged = list(
        merge(
            [chunk(1, 0, "a", kind=Reasoning), chunk(2, 1, "b", kind=Reasoning), chunk(3, 2, "c")]
        )
    )
    assert [
        (e.seq, json.loads(e.data).get("from_seq"), json.loads(e.data)["type"]) for e in merged
    ] == [
        (2, 1, "reasoning"),
        (3, None, "chunk"),
    ]


def of_part(
    seq: int, offset: int, content: str, part: int, kind: type[Chunk | Reasoning | ToolInput]
) -> Entry:
    return Entry(seq, stamp(seq, encode(kind("m", 1, offset, content, part))))


@pytest.mark.parametrize("kind", [Chunk, Reasoning, ToolInput])
def test_pieces_of_one_part_become_one(kind: type[Chunk | Reasoning | ToolInput]) -> None:
    """The merged piece keeps its part; a piece of another part stays apart."""
    parts = [(1, 0, "a", 0), (2, 1, "b", 0), (3, 2, "c", 1), (4, 3, "d", 1), (5, 4, "e", 2)]
    merged = [json.loads(entry.data) for entry in merge([of_part(*part, kind) for part in parts])]
    seen = [(event["seq"], event["part"], event["content"]) for event in merged]
    assert seen == [(2, 0, "ab"), (4, 1, "cd"), (5, 2, "e")]


def test_offsets_count_utf16_units() -> None:
    """A character beyond the BMP moves the next offset by two."""
    assert len(list(merge([chunk(1, 0, "👋"), chunk(2, 2, "!")]))) == 1
    assert len(list(merge([chunk(1, 0, "👋"), chunk(2, 1, "!")]))) == 2


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(chunk(3, 2, "cd"), id="a hole in seq"),
        pytest.param(chunk(2, 3, "cd"), id="a hole in the text"),
        pytest.param(chunk(2, 1, "cd"), id="an overlap"),
        pytest.param(chunk(2, 2, "cd", message="n"), id="another message"),
        pytest.param(chunk(2, 2, "cd", attempt=2), id="another attempt"),
        pytest.param(chunk(2, 2, "cd", kind=Reasoning), id="another type"),
        pytest.param(
            Entry(2, chunk(2, 2, "cd").data[:-1] + b',"lang":"de"}'), id="a field not known here"
        ),
        pytest.param(other(2), id="another event"),
    ],
)
def test_events_that_differ_pass_byte_for_byte(second: Entry) -> None:
    """One difference is enough to keep two events apart and untouched."""
    first = chunk(1, 0, "ab")
    assert list(merge([first, second])) == [first, second]


def test_never_across_another_event() -> None:
    """Two chunks around a tool call stay two, although their offsets adjoin."""
    entries = [chunk(1, 0, "ab"), other(2), chunk(3, 2, "cd")]
    assert list(merge(entries)) == entries


def test_merged_frames_stay_within_64_kib() -> None:
    """However much is pending, and however it is escaped."""
    entries = [chunk(n + 1, n * 1000, "\x01" * 1000) for n in range(200)]
    merged = list(merge(entries))
    assert len(merged) > 1
    assert all(len(entry.data) <= 64 * 1024 for entry in merged)
    assert "".join(json.loads(entry.data)["content"] for entry in merged) == "\x01" * 200_000


def test_an_event_that_is_long_already_passes() -> None:
    """A single event over 64 KiB of JSON passes as it is."""
    entries = [chunk(1, 0, "é" * 40_000), chunk(2, 40_000, "b")]
    assert list(merge(entries)) == entries


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["m", "n"]), st.sampled_from([Chunk, Reasoning]), texts, st.booleans()
        ),
        max_size=40,
    )
)
def test_merging_changes_nothing_that_a_client_sees(
    plan: list[tuple[str, type[Chunk | Reasoning], str, bool]],
) -> None:
    """Seqs have no hole, and each text is the same, for any mix of events."""
    lengths: dict[tuple[str, str], int] = {}
    held: dict[tuple[str, str], str] = {}
    entries = []
    for message, kind, text, event in plan:
        seq = len(entries) + 1
        key = (message, kind.__name__.lower())
        entries.append(
            other(seq)
            if event
            else chunk(seq, lengths.get(key, 0), text, message=message, kind=kind)
        )
        if not event:
            lengths[key] = lengths.get(key, 0) + utf16_length(text)
            held[key] = held.get(key, "") + text

    at, assembled = 0, dict[tuple[str, str], str]()
    for entry in merge(entries):
        event_ = json.loads(entry.data)
        assert event_["seq"] == entry.seq
        assert event_.get("from_seq", entry.seq) == at + 1
        at = entry.seq
        if event_["type"] != "part":
            key = (event_["message_id"], event_["type"])
            assert event_["offset"] == utf16_length(assembled.get(key, ""))
            assembled[key] = assembled.get(key, "") + event_["content"]
    assert at == len(entries)
    assert assembled == held


def test_terminal_events_pass_untouched() -> None:
    """A `complete` after merged chunks passes byte for byte."""
    end = Entry(3, stamp(3, encode(Complete("m", 1, "stop", None, 2, 1, [], 0, 0))))
    assert list(merge([chunk(1, 0, "a"), chunk(2, 1, "b"), end]))[1] == end
