"""protocol.events: the codec of PROTOCOL.md, section 1."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol import events
from tokenwire.protocol.events import (
    AnyEvent,
    Cancelled,
    Chunk,
    Complete,
    Error,
    MessageEvent,
    PartEvent,
    Reasoning,
    Reset,
    Retry,
    Start,
    Title,
    ToolInput,
    Usage,
    check_batch,
    convert,
    decode,
    encode,
    is_terminal,
    stamp,
)
from tokenwire.protocol.states import ENDED

USAGE = Usage(3, 5)
EVENTS: list[tuple[AnyEvent, dict[str, object]]] = [
    (
        MessageEvent({"id": "m", "content": "é", "error": None}),
        {"type": "message", "message": {"id": "m", "content": "é", "error": None}},
    ),
    (Start("m", 1, "demo"), {"type": "start", "message_id": "m", "attempt": 1, "model": "demo"}),
    (
        Chunk("m", 1, 0, "Hel", 0),
        {
            "type": "chunk",
            "message_id": "m",
            "attempt": 1,
            "offset": 0,
            "content": "Hel",
            "part": 0,
        },
    ),
    (
        Reasoning("m", 1, 7, "Hm", 0),
        {
            "type": "reasoning",
            "message_id": "m",
            "attempt": 1,
            "offset": 7,
            "content": "Hm",
            "part": 0,
        },
    ),
    (
        Retry("m", 1, "rate_limited", delay_ms=500, try_=1, max_tries=3),
        {
            "type": "retry",
            "message_id": "m",
            "attempt": 1,
            "code": "rate_limited",
            "delay_ms": 500,
            "try": 1,
            "max_tries": 3,
        },
    ),
    (
        Reset("m", 1, 0, 0, 0),
        {
            "type": "reset",
            "message_id": "m",
            "attempt": 1,
            "keep": 0,
            "keep_reasoning": 0,
            "keep_parts": 0,
        },
    ),
    (
        Complete("m", 1, "stop", USAGE, 3, 9, [], 0, 0),
        {
            "type": "complete",
            "message_id": "m",
            "attempt": 1,
            "finish_reason": "stop",
            "usage": {"input_tokens": 3, "output_tokens": 5, "estimated": False},
            "length": 3,
            "crc32": 9,
            "seams": [],
            "parts": 0,
            "parts_crc32": 0,
        },
    ),
    (
        Error("m", 1, "bug", "sorry", False, None, 0, 0, 0, 0),
        {
            "type": "error",
            "message_id": "m",
            "attempt": 1,
            "code": "bug",
            "error": "sorry",
            "retryable": False,
            "usage": None,
            "length": 0,
            "crc32": 0,
            "parts": 0,
            "parts_crc32": 0,
        },
    ),
    (
        Cancelled("m", 1, "u", Usage(1, 2, 3, 4, estimated=True), 0, 0, 0, 0),
        {
            "type": "cancelled",
            "message_id": "m",
            "attempt": 1,
            "by": "u",
            "usage": {
                "input_tokens": 1,
                "output_tokens": 2,
                "cached_tokens": 3,
                "reasoning_tokens": 4,
                "estimated": True,
            },
            "length": 0,
            "crc32": 0,
            "parts": 0,
            "parts_crc32": 0,
        },
    ),
    (
        Chunk("m", 1, 0, "Hel", 0),
        {
            "type": "chunk",
            "message_id": "m",
            "attempt": 1,
            "offset": 0,
            "content": "Hel",
            "part": 0,
        },
    ),
    (
        ToolInput("m", 1, 4, '{"a"', 2),
        {
            "type": "tool_input",
            "message_id": "m",
            "attempt": 1,
            "offset": 4,
            "content": '{"a"',
            "part": 2,
        },
    ),
    (
        PartEvent("m", 1, 2, {"type": "data", "id": None}),
        {
            "type": "part",
            "message_id": "m",
            "attempt": 1,
            "part": 2,
            "value": {"type": "data", "id": None},
        },
    ),
    (
        Reset("m", 1, 5, 0, 2),
        {
            "type": "reset",
            "message_id": "m",
            "attempt": 1,
            "keep": 5,
            "keep_reasoning": 0,
            "keep_parts": 2,
        },
    ),
    (Title("Trees", 2), {"type": "title", "title": "Trees", "rev": 2}),
]


@pytest.mark.parametrize(
    ("event", "wire"), EVENTS, ids=lambda value: value["type"] if isinstance(value, dict) else ""
)
def test_every_event_has_its_documented_shape(event: AnyEvent, wire: dict[str, object]) -> None:
    """Each field of the protocol is present, even `false`, 0 and empty lists. A stamped event
    decodes to itself.
    """
    assert json.loads(encode(event)) == wire
    stamped = stamp(42, encode(event))
    assert json.loads(stamped) == {"seq": 42, **wire}
    assert decode(stamped) == (42, event)


@pytest.mark.parametrize(("event", "wire"), EVENTS)
def test_a_parsed_event_is_the_same_event(event: AnyEvent, wire: dict[str, object]) -> None:
    """With or without a seq, as frames have it."""
    assert convert(wire) == convert({"seq": 7, **wire}) == event


def test_a_parsed_object_of_another_shape_is_a_value_error() -> None:
    """An unknown type is no error: it is no event."""
    assert convert({"seq": 7, "type": "telepathy"}) is None
    with pytest.raises(ValueError, match="message_id"):
        convert({"seq": 7, "type": "start"})


def test_seq_comes_first() -> None:
    """The bytes are those of the protocol's example: a relay finds the seq without parsing."""
    assert stamp(42, encode(Chunk("0198", 1, 118, "Hel", 0))) == (
        b'{"seq":42,"type":"chunk","message_id":"0198","attempt":1,"offset":118,"content":"Hel",'
        b'"part":0}'
    )


def test_unknown_types_and_fields_are_ignored() -> None:
    """A newer server does not break an older reader."""
    assert decode(b'{"seq":7,"type":"confetti","colour":"red"}') == (7, None)
    assert decode(b'{"seq":7,"type":"title","title":"t","rev":1,"colour":"red"}') == (
        7,
        Title("t", 1),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b'{"seq":1}',
        b'{"type":"title"}',
        b'{"seq":"x","type":"title"}',
        b'{"seq":1,"type":"chunk"}',
    ],
)
def test_what_is_no_event_is_a_value_error(data: bytes) -> None:
    """Anything but a stamped event."""
    with pytest.raises(ValueError):
        decode(data)


@given(st.text(st.characters(codec="utf-8")), st.integers(1, 2**53 - 1))
def test_any_text_survives(text: str, seq: int) -> None:
    """Quotes, controls, line separators, emoji."""
    assert decode(stamp(seq, encode(Chunk("m", 1, 0, text, 0)))) == (seq, Chunk("m", 1, 0, text, 0))


def test_terminal_events_are_the_three() -> None:
    """Only `complete`, `error` and `cancelled` seal an answer."""
    assert [wire["type"] for event, wire in EVENTS if is_terminal(event)] == [
        "complete",
        "error",
        "cancelled",
    ]


@pytest.mark.parametrize("parts", [(0, 0), (2, 907)])
def test_an_end_names_its_parts_even_where_there_are_none(parts: tuple[int, int]) -> None:
    """Null would mean that its writer does not know."""
    for event in (
        Complete("m", 1, "stop", None, 3, 9, [], *parts),
        Error("m", 1, "bug", "sorry", False, None, 3, 9, *parts),
        Cancelled("m", 1, "u", None, 3, 9, *parts),
    ):
        wire = json.loads(encode(event))
        assert (wire["parts"], wire["parts_crc32"]) == parts
        assert decode(stamp(4, encode(event))) == (4, event)


def test_a_batch_is_one_terminal_event_or_others() -> None:
    """A terminal event travels alone; an empty batch is refused."""
    chunk, complete = Chunk("m", 1, 0, "", 0), Complete("m", 1, "stop", None, 0, 0, [], 0, 0)
    assert check_batch([complete]) is True
    assert check_batch([chunk, chunk]) is False
    for batch in ([], [chunk, complete], [complete, complete]):
        with pytest.raises(ValueError, match=r"batch|terminal"):
            check_batch(batch)


def test_events_cannot_be_changed() -> None:
    """Entries of the log are immutable."""
    with pytest.raises(AttributeError):
        Title("t", 1).rev = 2  # type: ignore[misc]  # what is tested


def test_the_terminal_events_are_the_ended_states() -> None:
    """In the same order: each state is the type of the event that ends in it."""
    assert tuple(member.__struct_config__.tag for member in events.TERMINAL) == ENDED


@pytest.mark.parametrize("kind", events._TYPES)
def test_which_events_show_that_an_answer_is_running(kind: str) -> None:
    """Those of an attempt, but for a wait and its end; so a later type needs no list."""
    runs = "attempt" in events._TYPES[kind].__struct_fields__ and kind not in ("wait", *ENDED)
    assert runs == (kind in {"start", "chunk", "reasoning", "tool_input", "part", "retry", "reset"})
    assert events.shows_work(events.stamp(12, b'{"type":"%b","x":1}' % kind.encode())) is runs
    assert not events.shows_work(b'{"seq":1,"type":"title","title":"\\"type\\":\\"chunk\\""}')
    assert not events.shows_work(b'{"seq":1,"type":"later"}')
