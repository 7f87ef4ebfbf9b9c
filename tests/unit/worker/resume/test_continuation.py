"""worker.resume.continuation: what readers hold, and how the next attempt goes on from it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol import events
from tokenwire.protocol.events import Entry
from tokenwire.providers.spec import Rung
from tokenwire.worker.resume.continuation import (
    PAUSED,
    Attachment,
    Held,
    Plan,
    Run,
    attachment,
    difference,
    fold,
    folded_whole,
    is_paused,
    plan,
)


def entry(seq: int, event: events.AnyEvent) -> Entry:
    return Entry(seq, events.stamp(seq, events.encode(event)))


def chunk(seq: int, offset: int, content: str, message_id: str = "m") -> Entry:
    return entry(seq, events.Chunk(message_id, 1, offset, content))


def test_fold_adds_what_the_checkpoint_lacks() -> None:
    """Chunks after the checkpoint's seq extend its text, counted in UTF-16 units."""
    held = fold(Held("a😀", seq=4), "m", [chunk(5, 3, "b"), chunk(6, 4, "ü")])
    assert (held.text, held.seq) == ("a😀bü", 6)


def test_fold_ignores_other_messages() -> None:
    """One log holds the events of a whole conversation."""
    held = fold(Held("a", seq=4), "m", [chunk(5, 9, "z", "other"), chunk(6, 1, "b")])
    assert (held.text, held.seq) == ("ab", 6)


def test_fold_refuses_a_hole() -> None:
    """A piece beyond the end of the text means that something is missing; it is not papered over."""
    with pytest.raises(ValueError, match="hole"):
        fold(Held("a", seq=4), "m", [chunk(5, 2, "b")])


def test_fold_obeys_reset() -> None:
    """What was withdrawn is no longer held; a tool call with a result stays."""
    done, open_ = {"id": "1", "result": 3}, {"id": "2"}
    start = Held("abc", "why", (done, open_), 4)
    held = fold(
        start, "m", [entry(5, events.Reset("m", 2, keep=1, keep_reasoning=0)), chunk(6, 1, "X")]
    )
    assert (held.text, held.reasoning, held.tool_calls) == ("aX", "", (done,))


def test_fold_keeps_reasoning_apart() -> None:
    """Reasoning counts its own offsets."""
    held = fold(Held("abc", "why"), "m", [entry(7, events.Reasoning("m", 1, 3, "?"))])
    assert (held.text, held.reasoning) == ("abc", "why?")


@pytest.mark.parametrize("best", ["attach", "prefix", "turn", "restart", "none"])
def test_nothing_held_is_a_fresh_start(best: Rung) -> None:
    """Without text nobody saw anything: no rung is needed."""
    assert plan(best, Held()).rung == "fresh"


@pytest.mark.parametrize("best", ["prefix", "turn"])
def test_the_models_best_rung_is_taken(best: Rung) -> None:
    """Text stays where the model can go on from it."""
    chosen = plan(best, Held("abc"))
    assert chosen.rung == best
    assert chosen.keeps


def test_a_run_is_attached_to_even_before_there_is_text() -> None:
    """It goes on and is paid for; asking again would pay twice."""
    assert plan("attach", Held(), attachable=True).rung == "attach"


def test_without_a_run_the_model_is_asked_in_a_turn() -> None:
    """The next rung that every chat model has."""
    assert plan("attach", Held("abc")).rung == "turn"


@pytest.mark.parametrize(
    ("run", "text", "reasoning"),
    [(Run("r", 4, 2, 1), 2, 1), (Run("r", 4), 4, 2), (Run("r", 4, 1, 0), 3, 2)],
)
def test_an_attachment_passes_over_what_lies_behind_the_place_in_the_run(
    run: Run, text: int, reasoning: int
) -> None:
    """The run says again what came after its cursor, whether the checkpoint or only the log holds it."""
    assert attachment(run, Held("ab", "x"), Held("abcd", "xy")) == Attachment(run, text, reasoning)


def test_a_place_beyond_the_text_that_it_was_saved_with_means_nothing() -> None:
    """Whatever wrote such a row, characters must not be passed over that nobody has seen."""
    assert attachment(Run("r", 4, 3), Held("ab"), Held("abcd")) is None


@pytest.mark.parametrize("held", [Held("other"), Held("abc", tool_calls=({"id": "1"},))])
def test_a_run_that_does_not_fit_is_not_attached_to(held: Held) -> None:
    """Text that was withdrawn meanwhile, or tool calls: its place in the run is not known."""
    assert attachment(Run("r", 4), Held("ab"), held) is None


@pytest.mark.parametrize(
    ("held", "kinds", "paused"),
    [
        (Held("abc"), ["server_tool_use", PAUSED], True),
        (Held("abcd"), ["server_tool_use", PAUSED], False),
        (Held("abc"), [PAUSED, "server_tool_use"], False),
        (Held("abc", "", ({"id": "c"},)), [PAUSED], False),
        (Held("abc"), [], False),
    ],
)
def test_an_answer_ends_where_its_turn_paused_or_it_does_not(
    held: Held, kinds: list[str], paused: bool
) -> None:
    """Text, an item or a tool call behind the pause: there is more than the turn that would be sent back."""
    entries = [
        {"at": 3, "dialect": "" if kind == PAUSED else "a", "kind": kind, "value": {}}
        for kind in kinds
    ]
    assert is_paused(entries, held) is paused


def test_a_paused_turn_is_resumed_whatever_else_the_model_could_do() -> None:
    """It is the only way that loses nothing."""
    assert plan("none", Held("abc"), paused=True) == Plan("resume")
    assert Plan("resume").keeps


@pytest.mark.parametrize(
    "held", [Held("abc", tool_calls=({"id": "1"},)), Held("", "only thoughts")]
)
def test_stitching_is_refused_where_it_cannot_be_exact(held: Held) -> None:
    """Tool calls, and reasoning without text, cannot be continued: start over."""
    assert plan("prefix", held).rung == "restart"


def test_json_is_never_stitched() -> None:
    """An answer that must be valid JSON starts over."""
    assert plan("prefix", Held('{"a'), must_be_json=True).rung == "restart"


def test_a_model_that_cannot_go_on_keeps_the_text() -> None:
    """Rung 5: the partial text stays and the answer ends as interrupted."""
    chosen = plan("none", Held("abc"))
    assert (chosen.rung, chosen.keeps) == ("none", True)


CALL = {"id": "t", "name": "add", "arguments": {"a": 1}, "status": "pending"}
texts = st.text(st.characters(codec="utf-8"), max_size=12)


def told(survived: Held | None, target: Held) -> list[events.AnyEvent]:
    return difference(survived, target, "m", 3)


@given(texts, texts, texts, texts)
def test_the_difference_makes_the_whole(
    text: str, more: str, reasoning: str, more_reasoning: str
) -> None:
    """Without a `reset` where what survived is a beginning; each piece where the one before it ends, and none too long for an event."""
    survived = Held(text, reasoning)
    target = Held(text + more * 9000, reasoning + more_reasoning, (CALL,))
    made = told(survived, target)
    assert not any(isinstance(event, events.Reset) for event in made)
    assert all(
        len(getattr(event, "content", "").encode()) <= events.MAX_EVENT_TEXT_BYTES for event in made
    )
    held = fold(survived, "m", [entry(seq, event) for seq, event in enumerate(made, 1)])
    assert (held.text, held.reasoning, list(held.tool_calls)) == (
        target.text,
        target.reasoning,
        [CALL],
    )


@pytest.mark.parametrize(
    "survived", [None, Held("abX"), Held("abcd!"), Held("abc", "other"), Held("abc", "", (CALL,))]
)
def test_what_is_no_beginning_is_withdrawn(survived: Held | None) -> None:
    """Readers hold something else, or nobody can say what."""
    assert told(survived, Held("abcd")) == [
        events.Reset("m", 3, 0, 0),
        events.Chunk("m", 3, 0, "abcd"),
    ]


def test_nothing_is_said_to_viewers_who_hold_it_all() -> None:
    """And a call that they know is not made again."""
    held = Held("ab", "why", (CALL,))
    assert told(held, held) == []


def test_a_call_that_is_told_twice_is_one_call() -> None:
    """A log that lost it may be told of it again."""
    call = entry(5, events.ToolCall("m", 1, "t", "add", {"a": 1}, "pending"))
    assert list(fold(Held("a", tool_calls=(CALL,)), "m", [call]).tool_calls) == [CALL]


@pytest.mark.parametrize(
    ("first", "known"),
    [
        (events.Start("m", 1, "model"), True),
        (events.Reset("m", 2, 0, 0), True),
        (events.Start("m", 2, "model"), False),
        (events.Reset("m", 2, 1, 0), False),
    ],
)
def test_entries_alone_tell_the_text_if_it_begins_in_them(
    first: events.AnyEvent, known: bool
) -> None:
    """Or if nothing was before them."""
    there = [chunk(7, 0, "z", "other"), entry(8, first)]
    assert (folded_whole("m", there, from_first=False) is not None) is known
    assert folded_whole("m", [], from_first=True) == Held()
    assert folded_whole("m", [], from_first=False) is None


def test_what_was_cited_in_the_lost_end_of_a_log_is_cited_again() -> None:
    """And nothing that readers have, whether the text goes on or is told anew."""
    first, second = events.Source("m", 1, "https://a"), events.Source("m", 1, "https://b")
    target = Held("text", sources=(first, second))
    assert difference(Held("te", sources=(first,)), target, "m", 1)[1:] == [second]
    assert difference(Held("other", sources=(first,)), target, "m", 1)[2:] == [second]
    assert difference(None, target, "m", 1)[2:] == [first, second]
