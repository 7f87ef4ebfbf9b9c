"""client/transcript.py: order, messages, what follows a close. tests/js says it of tokenwire.js."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.client.transcript import LiveMessage, Order, Transcript, after_close
from tokenwire.protocol.cursors import Cursor
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.text import checksum, utf16_length

ROW = {
    "id": "m1",
    "ordinal": 2,
    "role": "assistant",
    "content": "",
    "status": "queued",
    "seq": 0,
    "rev": 1,
    "parent_id": "u1",
}
USER = {
    "id": "u1",
    "ordinal": 1,
    "role": "user",
    "content": "hi",
    "status": "complete",
    "seq": 0,
    "rev": 1,
    "parent_id": None,
}


def transcript(row: dict[str, Any] | None = None, **more: Any) -> Transcript:
    held = Transcript()
    held.load(
        {
            "conversation": {"id": "c1", "title": None, "rev": 1},
            "messages": [USER, ROW | (row or {})],
            "next": None,
        }
        | more
    )
    return held


def m1(held: Transcript) -> LiveMessage:
    found = held.get("m1")
    assert found is not None
    return found


def event(seq: int, kind: str, **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "type": kind, "message_id": "m1", "attempt": 1, **fields}


def chunk(seq: int, offset: Any, content: Any) -> dict[str, Any]:
    return event(seq, "chunk", part=0, offset=offset, content=content)


def reset(seq: int, keep: int, keep_parts: int) -> dict[str, Any]:
    return event(seq, "reset", keep=keep, keep_reasoning=0, keep_parts=keep_parts)


def layout(held: Transcript) -> list[dict[str, Any]]:
    return [part.view() for part in m1(held).parts]


def ending(seq: int, content: str, kind: str = "complete") -> dict[str, Any]:
    said = {
        "complete": {"finish_reason": "stop", "seams": []},
        "error": {"code": "internal_error", "error": "No.", "retryable": False},
        "cancelled": {"by": "ada"},
    }[kind]
    units = utf16_length(content)
    proof = {"length": units, "crc32": checksum(content), "parts": int(units > 0)}
    layout_crc32 = checksum(f"text\0{units}\0" if units else "")
    return event(seq, kind, usage=None, **proof, parts_crc32=layout_crc32, **said)


# --- order ----------------------------------------------------------------------------------------


@given(st.permutations(range(1, 30)), st.lists(st.integers(0, 28)))
def test_events_leave_in_order_whatever_the_order_they_come_in(
    order_of_arrival: list[int], again: list[int]
) -> None:
    """Each once, and nothing waits at the end."""
    order = Order(Cursor("e", 0))
    come = [{"seq": seq} for seq in order_of_arrival]
    for place in again:
        come.insert(place, come[place])
    left = [event["seq"] for arrived in come for event in order.push(arrived)]
    assert left == list(range(1, 30))
    assert not order.waiting


@given(st.lists(st.integers(1, 40), max_size=20), st.randoms(use_true_random=False))
def test_merged_events_fill_the_same_numbers(cuts: list[int], random: Any) -> None:
    """`from_seq` to `seq`: what leaves covers everything, in order."""
    places = sorted({*cuts, 0, 40})
    come = [{"from_seq": start + 1, "seq": end} for start, end in pairwise(places)]
    random.shuffle(come)
    order = Order(Cursor("e", 0))
    left = [event for arrived in come for event in order.push(arrived)]
    assert [event["from_seq"] for event in left] == [start + 1 for start in places[:-1]]
    assert order.seq == 40


def test_a_missing_event_holds_back_what_follows() -> None:
    """And the cursor stays before it; too many of them mean that it will not come."""
    order = Order(Cursor("e", 4))
    assert order.push({"seq": 6}) == []
    assert (order.waiting, str(order.cursor)) == (True, "e:4")
    assert [event["seq"] for event in order.push({"seq": 5})] == [5, 6]
    for seq in range(8, 8 + 513):
        order.push({"seq": seq})
    assert order.overfull


def test_what_waits_when_the_log_forks_is_dropped() -> None:
    """It may be no part of what follows."""
    order = Order(Cursor("e", 4))
    order.push({"seq": 6, "content": "lost"})
    order.fork("f")
    assert (order.waiting, str(order.cursor)) == (False, "f:4")
    assert order.push({"seq": 5}) == [{"seq": 5}]
    assert order.push({"seq": 6, "content": "new"}) == [{"seq": 6, "content": "new"}]


# --- messages -------------------------------------------------------------------------------------


@given(
    st.text(st.sampled_from("aé👍\n"), max_size=40),
    st.lists(st.integers(0, 40), max_size=8),
    st.integers(0, 40),
)
def test_rows_and_events_give_the_text(text: str, cuts: list[int], checkpointed: int) -> None:
    """However much the row held: overlapping chunks add what is missing, and the end proves it."""
    places = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    held = transcript({"content": text[:checkpointed], "status": "streaming"})
    events = [
        chunk(0, utf16_length(text[:start]), text[start:end]) for start, end in pairwise(places)
    ]
    for seq, event in enumerate([*events, ending(0, text)], 1):
        assert held.apply(event | {"seq": seq})
    assert (m1(held).content, m1(held).proven, m1(held).status) == (text, True, "complete")


def test_events_that_the_row_holds_change_nothing() -> None:
    """Its `seq` says how far it reaches."""
    held = transcript({"content": "Hello", "status": "streaming", "seq": 5})
    assert held.apply(reset(5, 0, 0))
    assert held.apply(chunk(6, 5, " you"))
    assert m1(held).content == "Hello you"


@pytest.mark.parametrize(
    ("offset", "content"), [(1, "x"), (-1, "x"), ("0", "x"), (None, "x"), (0, None), (0, 5)]
)
def test_what_does_not_fit_is_a_hole(offset: Any, content: Any) -> None:
    """Text stays as it is, and the conversation must be read again."""
    held = transcript()
    assert not held.apply(chunk(1, offset, content))
    assert m1(held).content == ""


def test_an_overlap_that_ends_inside_a_character_is_a_hole() -> None:
    """What is held says something else than the log: it must be read again."""
    held = transcript({"content": "a", "status": "streaming"})
    assert not held.apply(chunk(1, 0, "👋"))
    assert m1(held).content == "a"


def test_parts_are_what_events_say() -> None:
    """Text, a call whose input comes in pieces, a source; each with its fields and its text."""
    held = transcript()
    call = {"type": "tool_call", "id": "c1", "name": "add", "state": "streaming"}
    source = {"type": "source", "url": "https://a.example/", "at": 2}
    assert held.apply(event(1, "part", part=0, value=call))
    assert held.apply(event(2, "tool_input", part=0, offset=0, content='{"a"'))
    assert held.apply(event(3, "tool_input", part=0, offset=4, content=":1}"))
    assert held.apply(event(4, "chunk", part=1, offset=0, content="It"))
    assert held.apply(event(5, "part", part=2, value=source))
    assert held.apply(event(6, "part", part=0, value={"type": "tool_call", "state": "proposed"}))
    assert [(part.type, part.text) for part in m1(held).parts] == [
        ("tool_call", '{"a":1}'),
        ("text", "It"),
        ("source", ""),
    ]
    assert m1(held).parts[0].fields == {"id": "c1", "name": "add", "state": "proposed"}
    assert m1(held).parts[2].fields["url"] == "https://a.example/"
    assert held.apply(reset(7, 0, 1))
    assert not held.apply(reset(8, 9, 1))
    assert [part.type for part in m1(held).parts] == ["tool_call"]


def test_what_has_another_shape_is_a_hole() -> None:
    """It may be of a newer server: the rows say what it means. Unknown types change nothing."""
    held = transcript()
    assert not held.apply(event(1, "part", part=0))
    assert not held.apply(event(2, "part", part="0", value={"type": "step"}))
    assert held.apply(event(3, "telepathy", part=0))
    assert m1(held).parts == []


def test_states_follow_one_another() -> None:
    """queued, retrying, streaming, and the three ends."""
    held = transcript()
    assert (m1(held).status, held.running) == ("queued", True)
    held.apply(
        {
            "seq": 1,
            "type": "retry",
            "message_id": "m1",
            "attempt": 1,
            "code": "rate_limited",
            "delay_ms": 9,
            "try": 1,
            "max_tries": 3,
        }
    )
    assert (m1(held).status, m1(held).retry) == (
        "retrying",
        {"code": "rate_limited", "delay_ms": 9, "try": 1, "max_tries": 3},
    )
    held.apply(event(2, "start", model="demo") | {"attempt": 2})
    assert (m1(held).status, m1(held).retry, m1(held).attempt) == ("streaming", None, 2)
    for kind in ("complete", "error", "cancelled"):
        other = transcript()
        other.apply(ending(1, "", kind))
        assert (m1(other).status, other.running) == (kind, False)


def test_an_end_that_comes_while_another_try_is_awaited_ends_the_wait() -> None:
    """Whoever stops an answer then is not told that it will be tried again."""
    held = transcript()
    wait = {"code": "unavailable", "delay_ms": 9, "try": 1, "max_tries": 3}
    held.apply({"seq": 1, "type": "retry", "message_id": "m1", "attempt": 1, **wait})
    assert m1(held).retry == wait
    held.apply(ending(2, "", "cancelled"))
    assert (m1(held).status, m1(held).retry, m1(held).by) == ("cancelled", None, "ada")


def test_a_wrong_checksum_is_doubted_once() -> None:
    """The conversation is read again. If it is still wrong, the message is not proven."""
    held = transcript({"content": "Helo", "status": "streaming"})
    assert not held.apply(ending(1, "Hello"))
    assert held.apply(ending(1, "Hello"))
    assert m1(held).proven is False


def test_longer_text_stays_until_the_log_has_caught_up() -> None:
    """A row that is read again may be a second behind; what is no beginning of it is not kept."""
    held = transcript({"status": "streaming"})
    held.apply(chunk(1, 0, "Hello you"))
    held.load({"conversation": {}, "messages": [ROW | {"content": "Hello", "status": "streaming"}]})
    assert m1(held).content == "Hello you"
    held.apply(chunk(1, 5, " all"))
    assert m1(held).content == "Hello all"
    held.load({"conversation": {}, "messages": [ROW | {"content": "Hello", "status": "streaming"}]})
    held.release()
    assert m1(held).content == "Hello"


def test_a_changed_row_does_not_replace_text_built_from_chunks() -> None:
    """Nor end an answer; an older `rev` changes nothing at all."""
    held = transcript()
    held.apply(chunk(1, 0, "Hello"))
    held.admit(ROW | {"content": "other", "status": "complete", "rev": 2, "model": "big"})
    assert (m1(held).content, m1(held).status, m1(held).model) == ("Hello", "streaming", "big")
    held.admit(ROW | {"model": "small", "rev": 1})
    assert m1(held).model == "big"


def test_a_row_takes_the_place_of_what_stood_between_its_parent_and_itself() -> None:
    """An answer made again: the old one is gone, and so are events about it."""
    held = transcript()
    held.apply({"seq": 1, "type": "message", "message": ROW | {"id": "m2", "ordinal": 3}})
    assert [message.id for message in held.messages] == ["u1", "m2"]
    assert held.apply(chunk(2, 7, "late"))
    assert held.get("m1") is None


def test_what_was_replaced_before_the_rows_were_read_does_not_come_back() -> None:
    """Events of the log may be older than the rows, and about an answer that was replaced."""
    held = transcript({"id": "a3", "ordinal": 5})
    held.apply({"seq": 1, "type": "message", "message": ROW | {"id": "a1"}})
    held.apply(chunk(2, 0, "old") | {"message_id": "a1"})
    held.apply({"seq": 3, "type": "message", "message": ROW | {"id": "a3", "ordinal": 5}})
    held.apply(ending(4, "old", "cancelled") | {"message_id": "a1"})
    assert [message.id for message in held.messages] == ["u1", "a3"]


def test_a_message_that_nobody_told_of() -> None:
    """Its beginning makes it; what is in the midst of it may be an old one's."""
    held = transcript()
    assert held.apply(chunk(1, 3, "x") | {"message_id": "old"})
    assert held.apply(
        {"seq": 2, "type": "start", "message_id": "new", "attempt": 1, "model": "demo"}
    )
    assert (held.get("old"), held.messages[-1].id) == (None, "new")
    held.admit(ROW | {"id": "new", "ordinal": 4, "parent_id": "elsewhere"})
    assert held.messages[-1].ordinal == 4


def test_unknown_events_and_titles() -> None:
    """What is not known is ignored; a title counts by its rev."""
    held = transcript()
    assert held.apply({"seq": 1, "type": "telepathy", "message_id": "m1"})
    held.apply({"seq": 2, "type": "title", "title": "Two", "rev": 2})
    held.apply({"seq": 3, "type": "title", "title": "One", "rev": 1})
    assert held.conversation["title"] == "Two"


def test_earlier_pages_stay() -> None:
    """Reading the newest page again does not lose those before it."""
    held = transcript(next=1)
    held.prepend({"messages": [USER | {"id": "u0", "ordinal": 0}], "next": None})
    held.load({"conversation": {}, "messages": [USER, ROW], "next": 1})
    assert ([message.id for message in held.messages], held.next) == (["u0", "u1", "m1"], None)


# --- after a close --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "failures", "then", "longest"),
    [
        (1006, 0, "reconnect", 0.5),
        (1006, 3, "reconnect", 4.0),
        (0, 50, "reconnect", 30.0),
        (503, 1, "reconnect", 1.0),
        (1012, 0, "reconnect", 3.0),
        (1012, 6, "reconnect", 30.0),
        (4401, 0, "token", 0.0),
        (4401, 1, "token", 1.0),
        (4410, 0, "resync", 2.0),
        (4429, 2, "reconnect", 2.0),
        (4400, 0, "stop", 0.0),
        (4404, 0, "stop", 0.0),
        (404, 0, "stop", 0.0),
    ],
)
def test_what_follows_a_close(code: int, failures: int, then: str, longest: float) -> None:
    """It depends on the code and on failures in a row. The delay is random, up to a bound."""
    late, soon = after_close(code, failures, lambda: 1.0), after_close(code, failures, lambda: 0.0)
    assert (late.then, late.delay_seconds) == (then, longest)
    assert (soon.then, soon.delay_seconds) == (then, 0.0)


def test_a_message_has_every_field_of_an_answer() -> None:
    """Also those that a later event type adds: nothing is forwarded by name."""
    message = LiveMessage({"id": "m", "role": "assistant", "ordinal": 1, "status": "queued"})
    fields = {name for name in vars(Answer("m")) if not name.startswith("_")}
    assert all(hasattr(message, name) for name in fields)
    message._logged.rating = 5  # type: ignore[attr-defined]  # as a later fold might set it
    assert message.rating == 5  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        message.nothing  # type: ignore[attr-defined]  # noqa: B018
