"""worker.attempt.draft: deltas in, batches of events out, nothing stored that was not acknowledged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol import events
from tokenwire.protocol.text import utf16_length
from tokenwire.providers import base
from tokenwire.worker.attempt.draft import PIECE_CHARS, Draft
from tokenwire.worker.resume.continuation import Attachment, Held, Run


def chunks(batch: list[events.AnyEvent]) -> list[tuple[int, str]]:
    return [(event.offset, event.content) for event in batch if isinstance(event, events.Chunk)]


def test_pieces_that_wait_together_leave_as_one_event() -> None:
    """Coalescing is by load: what was taken since the last batch is joined."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("Hel"), base.TextDelta("lo")])
    assert chunks(draft.batch()) == [(0, "Hello")]


def test_a_batch_stays_the_same_until_acknowledged() -> None:
    """A repeat must be byte for byte the batch that may have landed; later text waits for the next one."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("a")])
    first = list(draft.batch())
    draft.take([base.TextDelta("b")])
    assert draft.batch() == first
    draft.acknowledged(7)
    assert chunks(draft.batch()) == [(1, "b")]


def test_only_acknowledged_text_is_held() -> None:
    """A checkpoint never runs ahead of the log."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("a")])
    draft.batch()
    assert draft.checkpoint() == Held("", "", (), 0)
    draft.acknowledged(3)
    draft.take([base.TextDelta("b")])
    assert draft.checkpoint() == Held("a", "", (), 3)


def test_text_and_reasoning_keep_their_order_and_own_offsets() -> None:
    """Each counts by itself; neither is joined across the other."""
    draft = Draft("m", 1, Held("ab", "x"))
    draft.take(
        [
            base.ReasoningDelta("y"),
            base.TextDelta("c"),
            base.ReasoningDelta("z"),
            base.TextDelta("d"),
        ]
    )
    batch = draft.batch()
    assert [type(event).__name__ for event in batch] == ["Reasoning", "Chunk", "Reasoning", "Chunk"]
    assert [event.offset for event in batch] == [1, 2, 2, 3]  # type: ignore[union-attr]


def test_offsets_within_a_batch_are_code_units() -> None:
    """A character outside of the BMP is two, whether the batch before or this one brought it."""
    draft = Draft("m", 1, Held())
    draft.take(
        [
            base.TextDelta("😀"),
            base.ReasoningDelta("👍"),
            base.TextDelta("é"),
            base.ReasoningDelta("x"),
            base.TextDelta("!"),
        ]
    )
    assert [event.offset for event in draft.batch()] == [0, 0, 2, 2, 3]  # type: ignore[union-attr]
    draft.acknowledged(5)
    draft.take([base.TextDelta("?"), base.ReasoningDelta("y")])
    assert [event.offset for event in draft.batch()] == [4, 3]  # type: ignore[union-attr]


def test_half_a_character_at_the_end_is_not_dropped() -> None:
    """The provider is done: what its other half never came for is shown as what it is, in text and in reasoning."""
    draft = Draft("m", 1, Held())
    draft.take([base.ReasoningDelta("b\ud83d"), base.TextDelta("a\ud83d")])
    draft.flush()
    draft.batch()
    draft.acknowledged(2)
    assert (draft.held().text, draft.held().reasoning) == ("a\ufffd", "b\ufffd")


def test_a_long_piece_is_cut_to_the_size_of_an_event() -> None:
    """No event carries more text than the protocol allows."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("😀" * (PIECE_CHARS + 5))])
    batch = draft.batch()
    assert len(batch) == 2
    assert all(
        len(event.content.encode()) <= events.MAX_EVENT_TEXT_BYTES
        for event in batch
        if isinstance(event, events.Chunk)
    )


def test_a_tool_call_becomes_one_event_with_its_arguments() -> None:
    """Arguments arrive in pieces and leave as an object; no arguments are an empty object."""
    draft = Draft("m", 1, Held())
    draft.take(
        [
            base.ToolCallStart(0, "c1", "f"),
            base.ToolCallArguments(0, '{"a"'),
            base.ToolCallArguments(0, ":1}"),
        ]
    )
    draft.take([base.ToolCallEnd(0), base.ToolCallStart(1, "c2", "g"), base.ToolCallEnd(1)])
    calls = [event for event in draft.batch() if isinstance(event, events.ToolCall)]
    assert [(call.tool_call_id, call.arguments, call.status) for call in calls] == [
        ("c1", {"a": 1}, "pending"),
        ("c2", {}, "pending"),
    ]
    draft.acknowledged(2)
    assert [call["id"] for call in draft.held().tool_calls] == ["c1", "c2"]


def test_broken_arguments_are_kept_but_are_no_object_to_run() -> None:
    """A truncated call can be looked at, not executed."""
    draft = Draft("m", 1, Held())
    draft.take(
        [base.ToolCallStart(0, "c", "f"), base.ToolCallArguments(0, '{"rm'), base.ToolCallEnd(0)]
    )
    call = draft.batch()[0]
    assert isinstance(call, events.ToolCall)
    assert (call.arguments, call.status) == ('{"rm', "error")


def _call(arguments: str, name: str = "f") -> events.ToolCall:
    """The event of one call with these arguments."""
    draft = Draft("m", 1, Held())
    draft.take(
        [
            base.ToolCallStart(0, "c\0", name),
            base.ToolCallArguments(0, arguments),
            base.ToolCallEnd(0),
        ]
    )
    [call] = draft.batch()
    assert isinstance(call, events.ToolCall)
    return call


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (
            '{"x": NaN, "y": -Infinity}',
            '{"x": NaN, "y": -Infinity}',
        ),  # no JSON, and no number either
        ('{"x": 1e999}', '{"x": 1e999}'),
        ('{"x": ' + "9" * 40 + "}", {"x": "9" * 40}),
        ('{"a\\u0000": "\\ud83d"}', {"a\ufffd": "\ufffd"}),
        ('{"x": "\ud83d', '{"x": "\ufffd'),
    ],
)
def test_arguments_are_made_storable(arguments: str, kept: dict[str, object] | str) -> None:
    """The log and both databases take them; the same goes for the names of calls and tools."""
    call = _call(arguments, "f\ud83d")
    assert call.arguments == kept
    assert (call.tool_call_id, call.name) == ("c\ufffd", "f\ufffd")
    events.encode(call)
    json.dumps(call.arguments, allow_nan=False)


def test_arguments_nested_too_deeply_are_no_object_to_run() -> None:
    """Nor an error that ends the answer."""
    deep = '{"a":' * 2000 + "1" + "}" * 2000
    assert _call(deep).arguments == deep


def test_a_source_is_made_storable() -> None:
    """Its address, title and type come from the provider, too."""
    draft = Draft("m", 1, Held())
    draft.take([base.SourceDelta("http://x/\0", "\ud83d", "text/\0")])
    assert draft.batch() == [events.Source("m", 1, "http://x/\ufffd", "\ufffd", "text/\ufffd")]


@pytest.mark.parametrize("name", ["r" * 256, "r\0", "\ud83d"])
def test_a_run_whose_name_no_column_takes_cannot_be_attached_to(name: str) -> None:
    """Cut or cleaned it would be another name. The answer goes on without it."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("a")])
    draft.reached(name, 1)
    draft.batch()
    draft.acknowledged(1)
    assert draft.run is None


def test_a_refusal_is_text_and_a_reason() -> None:
    """What OpenAI streams as `refusal` with finish reason `stop` ends as `refusal`."""
    draft = Draft("m", 1, Held())
    draft.take([base.RefusalDelta("I can't."), base.Finish("stop", "stop")])
    assert chunks(draft.batch()) == [(0, "I can't.")]
    assert draft.finish_reason() == "refusal"


def test_what_was_never_appended_is_not_held_after_a_cancel() -> None:
    """The row ends with what people saw."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("a")])
    draft.batch()
    draft.acknowledged(1)
    draft.take([base.TextDelta("b")])
    draft.abandon_unacknowledged()
    assert draft.idle
    assert draft.held().text == "a"


@given(
    st.lists(
        st.tuples(
            st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=5),
            st.booleans(),
        ),
        max_size=30,
    )
)
def test_whatever_the_pieces_events_rebuild_exactly_what_is_held(
    pieces: list[tuple[str, bool]],
) -> None:
    """Surrogate halves, NUL, any cutting into batches: offsets have no hole, and events put together equal the held text."""
    draft, seen, seq = Draft("m", 1, Held()), "", 0

    def append() -> None:
        nonlocal seen, seq
        for offset, content in chunks(draft.batch()):
            assert offset == utf16_length(seen)
            content.encode()  # no lone surrogate
            assert "\x00" not in content
            seen += content
        seq += 1
        draft.acknowledged(seq)

    for text, flush in pieces:
        draft.take([base.TextDelta(text)])
        if flush:
            append()
    draft.flush()
    append()
    assert draft.held().text == seen
    assert draft.pending_chars == 0
    joined = (
        "".join(text for text, _ in pieces)
        .encode("utf-16-le", "surrogatepass")
        .decode("utf-16-le", "replace")
    )
    assert seen == joined.replace("\x00", "�")


def test_a_reset_withdraws_text_only_once_it_is_in_the_log() -> None:
    """Until then readers hold the text: an answer that ends before (a cancel) ends with it."""
    draft = Draft("m", 2, Held("old", "why", ({"id": "1"}, {"id": "2", "result": 1}), 5))
    draft.add(events.Reset("m", 2, keep=0, keep_reasoning=0))
    draft.take([base.TextDelta("new")])
    assert chunks(draft.batch()) == [(0, "new")]
    assert (draft.held().text, draft.held().reasoning) == ("old", "why")
    draft.acknowledged(7)
    assert draft.held() == Held("new", "", ({"id": "2", "result": 1},), 7)


def test_an_answer_that_was_begun_anew_takes_the_place_of_the_held_one() -> None:
    """Readers are told by a reset; no seam is left."""
    draft = Draft("m", 2, Held("old"), [3])
    draft.take([base.Restart(), base.TextDelta("new")])
    batch = draft.batch()
    assert [type(event).__name__ for event in batch] == ["Reset", "Chunk"]
    assert chunks(batch) == [(0, "new")]
    draft.acknowledged(7)
    assert (draft.held(), draft.seams) == (Held("new", "", (), 7), [])


def test_what_is_out_is_not_abandoned_with_what_waits() -> None:
    """It may be in the log already."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("a")])
    draft.batch()
    draft.take([base.TextDelta("b")])
    draft.abandon_waiting()
    assert not draft.idle
    draft.acknowledged(3)
    assert draft.idle
    assert draft.held().text == "a"


def acknowledge(draft: Draft, seq: int) -> None:
    draft.batch()
    draft.acknowledged(seq)


def test_a_run_is_kept_with_the_place_up_to_which_its_text_is_acknowledged() -> None:
    """Half a character is no place; the one before it stays good: what lies between is known to be said again."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("ab")])
    draft.reached("run", 1)
    assert draft.run is None
    acknowledge(draft, 1)
    assert draft.run == Run("run", 1, 2)
    draft.take([base.TextDelta("cd\ud83d")])
    draft.reached("run", 2)
    acknowledge(draft, 2)
    assert (draft.held().text, draft.run) == ("abcd", Run("run", 1, 2))
    draft.take([base.TextDelta("\ude00")])
    draft.reached("run", 3)
    acknowledge(draft, 3)
    assert (draft.held().text, draft.run) == ("abcd😀", Run("run", 3, 5))


def test_the_name_of_a_run_is_known_before_there_is_any_text() -> None:
    """It can be attached to from its beginning; nothing has to be acknowledged for that but what was taken before."""
    draft = Draft("m", 1, Held())
    draft.reached("run", None)
    assert draft.run == Run("run", None)
    draft.add(events.Start("m", 1, "model"))
    draft.take([base.RunStarted("run")])
    draft.reached("run", 1)
    assert draft.run == Run("run", None)
    acknowledge(draft, 1)
    assert draft.run == Run("run", 1)


def test_what_came_while_a_batch_was_out_is_no_place_yet() -> None:
    """Only when it was acknowledged itself."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("a")])
    draft.reached("run", 1)
    draft.batch()
    draft.take([base.TextDelta("b")])
    draft.reached("run", 2)
    draft.acknowledged(1)
    assert draft.run == Run("run", 1, 1)
    acknowledge(draft, 2)
    assert draft.run == Run("run", 2, 2)


def test_a_run_has_no_place_within_a_tool_call() -> None:
    """Attached to there, it would give the rest of the arguments alone."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("a")])
    draft.reached("run", 1)
    draft.take([base.ToolCallStart(0, "c", "f"), base.ToolCallArguments(0, "{")])
    draft.reached("run", 2)
    acknowledge(draft, 1)
    assert draft.run == Run("run", 1, 1)


def test_a_run_that_still_repeats_itself_keeps_its_place() -> None:
    """Attached behind what readers hold, it is good from where it was attached to, and from each place that it reaches."""
    draft = Draft("m", 2, Held("abcd"), attached=Attachment(Run("run", 1, 2), known_text=2))
    assert draft.run == Run("run", 1, 2)
    draft.take([base.TextDelta("c")])
    draft.reached("run", 2)
    assert draft.run == Run("run", 2, 3)
    draft.take([base.TextDelta("de")])
    draft.reached("run", 3)
    acknowledge(draft, 5)
    assert (draft.held().text, draft.run) == ("abcde", Run("run", 3, 5))


def test_what_is_abandoned_is_no_place_of_a_run() -> None:
    """Nobody will ever hold that text."""
    draft = Draft("m", 1, Held())
    draft.take([base.TextDelta("a")])
    draft.reached("run", 1)
    draft.batch()
    draft.take([base.TextDelta("b")])
    draft.reached("run", 2)
    draft.abandon_waiting()
    draft.acknowledged(1)
    assert draft.run == Run("run", 1, 1)


def test_characters_are_counted_that_an_attempt_has_added() -> None:
    """Not those that it began with, nor what was withdrawn."""
    draft = Draft("m", 2, Held("old"))
    draft.take([base.TextDelta("new"), base.ReasoningDelta("hm")])
    assert draft.added == 0
    acknowledge(draft, 5)
    assert draft.added == 5
    draft.add(events.Reset("m", 2, keep=0, keep_reasoning=0))
    acknowledge(draft, 6)
    assert draft.added == 0


def test_a_run_after_a_reset_counts_from_what_is_kept() -> None:
    """The withdrawn text is none of its."""
    draft = Draft("m", 2, Held("old"))
    draft.add(events.Reset("m", 2, keep=0, keep_reasoning=0))
    draft.take([base.TextDelta("new")])
    draft.reached("run", 1)
    draft.batch()
    draft.acknowledged(5)
    assert draft.run == Run("run", 1, 3)


def test_usage_is_merged_field_by_field() -> None:
    """Later numbers replace earlier ones where they are given."""
    draft = Draft("m", 1, Held())
    draft.take(
        [
            base.UsageDelta(input_tokens=5),
            base.UsageDelta(output_tokens=1),
            base.UsageDelta(output_tokens=9, cached_tokens=2),
        ]
    )
    assert draft.reported.total() == events.Usage(5, 9, 2)


def test_arguments_that_are_cut_off_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too long for an event, or broken off because the answer is full, stays text: parsing it would be for nothing."""
    monkeypatch.setattr("tokenwire.worker.attempt.draft.parsed_arguments", pytest.fail)
    draft = Draft("m", 1, Held(), max_bytes=300_000)
    long, text = "[1," * 30_000, '{"a":'
    draft.take(
        [base.ToolCallStart(0, "a", "f"), base.ToolCallArguments(0, long), base.ToolCallEnd(0)]
    )
    draft.take(
        [
            base.ToolCallStart(1, "b", "g"),
            base.ToolCallArguments(1, text),
            base.TextDelta("x" * 300_000),
        ]
    )
    assert draft.full
    calls = [event for event in draft.batch() if isinstance(event, events.ToolCall)]
    assert [(call.tool_call_id, call.status) for call in calls] == [("a", "error"), ("b", "error")]
    assert calls[0].arguments == long[: events.MAX_EVENT_TEXT_BYTES]


KEPT = base.Kept("d", "k", {"x": 1})


def test_what_goes_back_with_a_part_stands_at_its_place_in_the_text() -> None:
    """Rows have no parts yet. A message of OpenAI's would repeat the text itself."""
    draft = Draft("m", 1, Held())
    draft.take(
        [
            base.ReasoningDelta("hm"),
            base.ReasoningEnd(KEPT),
            base.ReasoningEnd(),
            base.TextDelta("ab"),
            base.FileDelta("image/png", b"x", kept=KEPT),
            base.SourceDelta(title="a page", kept=KEPT),
            base.KeptDelta("openai.responses", "message", {"content": "ab"}),
        ]
    )
    assert [(entry["at"], entry["kind"]) for entry in draft.kept() or ()] == [
        (0, "k"),
        (2, "k"),
        (2, "k"),
    ]


def test_an_address_is_cited_once_in_each_request() -> None:
    """However many passages it supports."""
    draft = Draft("m", 1, Held())
    cited = [base.SourceDelta("https://x", cites=(at, 0), kept=KEPT) for at in (1, 2)]
    draft.take([base.TextDelta("ab"), *cited])
    assert [type(event).__name__ for event in draft.batch()] == ["Chunk", "Source"]
    assert draft.kept() == []
