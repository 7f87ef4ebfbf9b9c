"""The framing: bytes to events, however they are cut, with one error of its own."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import many
from tokenwire.providers.framing import RAW, STRAY, Frame, Framer, FrameTooLarge, JsonSplitter


def frames_of(pieces: list[bytes], limit: int = 1 << 20) -> list[Frame]:
    framer = Framer(limit)
    frames = [frame for piece in pieces for frame in framer.feed(piece)]
    return frames + framer.close()


@pytest.mark.parametrize(
    ("body", "frames"),
    [
        (b"data: a\n\ndata: b\n\n", [(b"", b"a"), (b"", b"b")]),
        (b"data:a\n\n", [(b"", b"a")]),
        (b"data:  a\n\n", [(b"", b" a")]),
        (b"event: ping\ndata: a\n\ndata: b\n\n", [(b"ping", b"a"), (b"", b"b")]),
        (b"data: a\nevent: late\n\n", [(b"late", b"a")]),
        (b"data: a\ndata: b\n\n", [(b"", b"a\nb")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
        (b": comment\n\ndata: a\n\n: comment\n", [(b"", b"a")]),
        (b"id: 1\n\n: x\n\nid: 2\nretry: 5\ndata: a\n\n", [(b"", b"a")]),
        (b"event: nothing\n\ndata: a\n\n", [(b"", b"a")]),
        (b"data: a", [(b"", b"a")]),
        (b"data: a\n", [(b"", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
        (b'error: {"code":500}\n\n', [(b"error", b'{"code":500}')]),
        (b'{"a":1}\n{"b":2}\n', [(RAW, b'{"a":1}'), (RAW, b'{"b":2}')]),
        (b'[{"a":1}\r\n,\r\n{"b":[{"c":2}]}]', [(RAW, b'{"a":1}'), (RAW, b'{"b":[{"c":2}]}')]),
        (
            b'data: a\n\n{\n "error": {\n  "code": 1 } }\n',
            [(b"", b"a"), (RAW, b'{\n "error": {\n  "code": 1 } }')],
        ),
        (b'{"a":"}\\"{"}\n', [(RAW, b'{"a":"}\\"{"}')]),
        (b'he said "hi\n{"a":1}\n', [(STRAY, b'he said "hi\n'), (RAW, b'{"a":1}')]),
        ("data: a\u0085b\u2028c\x0cd\n\n".encode(), [(b"", "a\u0085b\u2028c\x0cd".encode())]),
        (b"", []),
        (b"data:\n\n", [(b"", b"")]),
    ],
)
def test_a_body_becomes_its_frames(body: bytes, frames: list[Frame]) -> None:
    """Whole and in single bytes."""
    assert frames_of([body]) == frames
    assert frames_of([body[i : i + 1] for i in range(len(body))]) == frames


def test_an_event_whose_name_came_in_an_earlier_read() -> None:
    """Its data may fill the next read and still have that name; the event after it has none."""
    framer = Framer()
    assert framer.feed(b"event: error\n") == []
    assert framer.feed(b"data: a\n\n") == [(b"error", b"a")]
    assert framer.feed(b"data: b\n\n") == [(b"", b"b")]


def test_a_page_is_kept_for_the_report() -> None:
    """An HTML page gives no events, and its beginning is available for the error."""
    framer = Framer()
    frames = framer.feed(b"<html>\n<title>502 Bad Gateway</title>\n") + framer.close()
    assert {kind for kind, _ in frames} == {STRAY}
    assert b"502 Bad Gateway" in framer.tail


@pytest.mark.parametrize(
    "body",
    [b"data: " + b"x" * 2000, b"data: x\n" * 2000, b"data:\n" * 2000, b'{"a": "' + b"x\n" * 2000],
)
def test_sizes_are_bounded(body: bytes) -> None:
    """Lines, events and objects have a limit."""
    with pytest.raises(FrameTooLarge):
        frames_of([body[i : i + 100] for i in range(0, len(body), 100)], limit=1000)


def test_a_line_without_end_is_given_up_before_the_body_ends() -> None:
    """However it is cut."""
    framer = Framer(1000)
    for _ in range(10):
        framer.feed(b"x" * 100)
    with pytest.raises(FrameTooLarge):
        framer.feed(b"x")


def test_each_event_has_its_own_limit() -> None:
    """A long answer is many short events."""
    assert frames_of([b"data: x\ndata: y\n\n"] * 2000, limit=1000) == [(b"", b"x\ny")] * 2000


def test_a_large_event_in_small_pieces_takes_linear_time() -> None:
    """Five megabytes in pieces of 50 bytes arrive whole. Quadratic joining would take minutes."""
    body = b"data: " + b"x" * 5_000_000 + b"\n\n"
    assert frames_of([body[i : i + 50] for i in range(0, len(body), 50)], limit=1 << 24) == [
        (b"", body[6:-2])
    ]


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"data: {}",
                b"event: x",
                b"",
                b"\r",
                b": c",
                b"{",
                b"}",
                b'"',
                b"\\",
                b"[",
                b"error: x",
                b"data:",
            ]
        ),
        st.binary(max_size=12),
    ),
    max_size=40,
)


@given(LINES.map(b"\n".join), st.lists(st.integers(0, 400), max_size=12))
def test_any_bytes_any_cut(body: bytes, cuts: list[int]) -> None:
    """Input raises only FrameTooLarge, and the cuts do not matter."""
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[start:end] for start, end in itertools.pairwise(places)]
    try:
        whole = frames_of([body], limit=64)
    except FrameTooLarge:
        return
    assert frames_of(pieces, limit=10_000) == whole


@given(st.binary(max_size=300))
@settings(max_examples=many(200))
def test_memory_is_bounded(body: bytes) -> None:
    """No input makes it hold more than the limit."""
    framer = Framer(max_frame_bytes=50)
    try:
        for i in range(0, len(body), 7):
            framer.feed(body[i : i + 7])
            assert len(framer._held) <= 50
            assert sum(map(len, framer._data)) <= 50
            assert len(framer._json._held) <= 50
    except FrameTooLarge:
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(
    st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), max_size=5),
    st.integers(1, 9),
    st.sampled_from([None, 2]),
)
def test_objects_survive_splitting(values: list[object], step: int, indent: int | None) -> None:
    """A JSON array gives its objects, however it is printed and cut."""
    body = json.dumps(values, indent=indent, ensure_ascii=False).encode()
    splitter = JsonSplitter()
    found = [
        data
        for i in range(0, len(body), step)
        for kind, data in splitter.feed(body[i : i + step])
        if kind is RAW
    ]
    assert [json.loads(text) for text in found] == values
