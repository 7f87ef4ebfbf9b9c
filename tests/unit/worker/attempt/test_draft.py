"""worker.attempt.draft: deltas in, batches of events out, and only acknowledged text is stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.answers import held
from tokenwire.protocol import events
from tokenwire.protocol.text import utf16_length
from tokenwire.providers import base
from tokenwire.worker.attempt.draft import PIECE_CHARS, Draft, StartingPoint
from tokenwire.worker.resume.continuation import Run


def chunks(batch: list[events.AnyEvent]) -> list[tuple[int, str]]:
    return [(event.offset, event.content) for event in batch if isinstance(event, events.Chunk)]


def test_pieces_that_wait_together_leave_as_one_event() -> None:
    """Coalescing is by load: what was taken since the last batch is joined."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("Hel"), base.TextDelta("lo")])
    assert chunks(draft.batch()) == [(0, "Hello")]


def test_a_batch_stays_the_same_until_acknowledged() -> None:
    """A repetition must equal the batch that may have landed, byte for byte; later text waits for
    the next one.
    """
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("a")])
    first = list(draft.batch())
    draft.take([base.TextDelta("b")])
    assert draft.batch() == first
    draft.acknowledged(7)
    assert chunks(draft.batch()) == [(1, "b")]


def test_only_acknowledged_text_is_held() -> None:
    """A checkpoint never runs ahead of the log."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("a")])
    draft.batch()
    assert draft.answer.parts == []
    draft.acknowledged(3)
    draft.take([base.TextDelta("b")])
    assert (draft.answer.content, draft.seq) == ("a", 3)


def test_text_and_reasoning_keep_their_order_and_own_offsets() -> None:
    """Each counts by itself; neither is joined across the other."""
    draft = Draft(held("ab", "x"), 1)
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
    draft = Draft(held(), 1)
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
    """The provider is done: a half without its other half is shown as a replacement, in text and in
    reasoning.
    """
    draft = Draft(held(), 1)
    draft.take([base.ReasoningDelta("b\ud83d"), base.TextDelta("a\ud83d")])
    draft.flush()
    draft.batch()
    draft.acknowledged(2)
    assert (draft.answer.content, draft.answer.reasoning) == ("a\ufffd", "b\ufffd")


def test_a_long_piece_is_cut_to_the_size_of_an_event() -> None:
    """No event carries more text than the protocol allows."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("😀" * (PIECE_CHARS + 5))])
    batch = draft.batch()
    assert len(batch) == 2
    assert all(
        len(event.content.encode()) <= events.MAX_EVENT_TEXT_BYTES
        for event in batch
        if isinstance(event, events.Chunk)
    )


@pytest.mark.parametrize("name", ["r" * 256, "r\0", "\ud83d"])
def test_a_run_whose_name_no_column_takes_cannot_be_attached_to(name: str) -> None:
    """Cut or cleaned it would be another name. The answer goes on without it."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("a")])
    draft.reached(name, 1)
    draft.batch()
    draft.acknowledged(1)
    assert draft.run is None


def test_a_refusal_is_text_and_a_reason() -> None:
    """What OpenAI streams as `refusal` with finish reason `stop` ends as `refusal`."""
    draft = Draft(held(), 1)
    draft.take([base.RefusalDelta("I can't."), base.Finish("stop", "stop")])
    assert chunks(draft.batch()) == [(0, "I can't.")]
    assert draft.finish_reason() == "refusal"


def test_what_was_never_appended_is_not_held_after_a_cancel() -> None:
    """The row ends with what people saw."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("a")])
    draft.batch()
    draft.acknowledged(1)
    draft.take([base.TextDelta("b")])
    draft.abandon_unacknowledged()
    assert draft.idle
    assert draft.answer.content == "a"


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
    """Surrogate halves, NUL, any batches: offsets have no hole, and the events add up to the held
    text.
    """
    draft, seen, seq = Draft(held(), 1), "", 0

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
    assert draft.answer.content == seen
    assert draft.pending_chars == 0
    joined = (
        "".join(text for text, _ in pieces)
        .encode("utf-16-le", "surrogatepass")
        .decode("utf-16-le", "replace")
    )
    assert seen == joined.replace("\x00", "�")


def test_a_reset_withdraws_text_only_once_it_is_in_the_log() -> None:
    """Until then readers hold the text: an answer that ends before (a cancel) ends with it."""
    draft = Draft(held("old", "why", seq=5), 2)
    draft.withdraw()
    draft.take([base.TextDelta("new")])
    assert chunks(draft.batch()) == [(0, "new")]
    assert (draft.answer.content, draft.answer.reasoning) == ("old", "why")
    draft.acknowledged(7)
    assert (draft.answer.content, draft.answer.reasoning, draft.seq) == ("new", "", 7)


def test_an_answer_that_was_begun_anew_takes_the_place_of_the_held_one() -> None:
    """Readers are told by a reset; no seam is left."""
    draft = Draft(held("old"), 2, StartingPoint(seams=[3]))
    draft.take([base.Restart(), base.TextDelta("new")])
    batch = draft.batch()
    assert [type(event).__name__ for event in batch] == ["Reset", "Chunk"]
    assert chunks(batch) == [(0, "new")]
    draft.acknowledged(7)
    assert (draft.answer.content, draft.seq, draft.seams) == ("new", 7, [])


def test_what_is_out_is_not_abandoned_with_what_waits() -> None:
    """It may be in the log already."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("a")])
    draft.batch()
    draft.take([base.TextDelta("b")])
    draft.abandon_waiting()
    assert not draft.idle
    draft.acknowledged(3)
    assert draft.idle
    assert draft.answer.content == "a"


def acknowledge(draft: Draft, seq: int) -> None:
    draft.batch()
    draft.acknowledged(seq)


def test_a_run_is_kept_with_the_place_up_to_which_its_text_is_acknowledged() -> None:
    """Half a character is no cursor; the previous one stays valid, since the run repeats what
    follows it.
    """
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("ab")])
    draft.reached("run", 1)
    assert draft.run is None
    acknowledge(draft, 1)
    assert draft.run == Run("run", 1, 1, 2)
    draft.take([base.TextDelta("cd\ud83d")])
    draft.reached("run", 2)
    acknowledge(draft, 2)
    assert (draft.answer.content, draft.run) == ("abcd", Run("run", 1, 1, 2))
    draft.take([base.TextDelta("\ude00")])
    draft.reached("run", 3)
    acknowledge(draft, 3)
    assert (draft.answer.content, draft.run) == ("abcd😀", Run("run", 3, 1, 6))


def test_the_name_of_a_run_is_known_before_there_is_any_text() -> None:
    """It can be attached to from its beginning; only earlier text has to be acknowledged for
    that.
    """
    draft = Draft(held(), 1)
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
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("a")])
    draft.reached("run", 1)
    draft.batch()
    draft.take([base.TextDelta("b")])
    draft.reached("run", 2)
    draft.acknowledged(1)
    assert draft.run == Run("run", 1, 1, 1)
    acknowledge(draft, 2)
    assert draft.run == Run("run", 2, 1, 2)


def test_a_run_has_no_place_within_a_tool_call() -> None:
    """Attached to there, it would give the rest of the arguments alone."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("a")])
    draft.reached("run", 1)
    draft.take([base.ToolCallStart(0, "c", "f"), base.ToolCallArguments(0, "{")])
    draft.reached("run", 2)
    acknowledge(draft, 1)
    assert draft.run == Run("run", 1, 1, 1)


def test_a_run_that_still_repeats_itself_keeps_its_place() -> None:
    """Attached behind the readers' text, it is valid from its first cursor, and from each later
    one.
    """
    draft = Draft(held("abcd"), 2, StartingPoint(run=Run("run", 1, 1, 2)))
    assert draft.run == Run("run", 1, 1, 2)
    draft.take([base.TextDelta("c")])
    draft.reached("run", 2)
    assert draft.run == Run("run", 2, 1, 3)
    draft.take([base.TextDelta("de")])
    draft.reached("run", 3)
    acknowledge(draft, 5)
    assert (draft.answer.content, draft.run) == ("abcde", Run("run", 3, 1, 5))


def test_what_is_abandoned_is_no_place_of_a_run() -> None:
    """Nobody will ever hold that text."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("a")])
    draft.reached("run", 1)
    draft.batch()
    draft.take([base.TextDelta("b")])
    draft.reached("run", 2)
    draft.abandon_waiting()
    draft.acknowledged(1)
    assert draft.run == Run("run", 1, 1, 1)


def test_characters_are_counted_that_an_attempt_has_added() -> None:
    """Not those that it began with, nor what was withdrawn."""
    draft = Draft(held("old"), 2)
    draft.take([base.TextDelta("new"), base.ReasoningDelta("hm")])
    assert draft.added == 0
    acknowledge(draft, 5)
    assert draft.added == 5
    draft.withdraw()
    acknowledge(draft, 6)
    assert draft.added == 0


def test_a_run_after_a_reset_counts_from_what_is_kept() -> None:
    """The withdrawn text is none of its."""
    draft = Draft(held("old"), 2)
    draft.withdraw()
    draft.take([base.TextDelta("new")])
    draft.reached("run", 1)
    draft.batch()
    draft.acknowledged(5)
    assert draft.run == Run("run", 1, 1, 3)


def test_usage_is_merged_field_by_field() -> None:
    """Later numbers replace earlier ones where they are given."""
    draft = Draft(held(), 1)
    draft.take(
        [
            base.UsageDelta(input_tokens=5),
            base.UsageDelta(output_tokens=1),
            base.UsageDelta(output_tokens=9, cached_tokens=2),
        ]
    )
    assert draft.reported.total() == events.Usage(5, 9, 2)
