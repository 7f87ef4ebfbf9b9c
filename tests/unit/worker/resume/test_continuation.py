"""worker.resume.continuation: what readers hold, and how the next attempt goes on from it."""

import pytest

from tests.answers import answer, held
from tokenwire.protocol import events
from tokenwire.protocol.events import Entry
from tokenwire.protocol.fold import Answer, Hole, Part
from tokenwire.protocol.kept import LOST
from tokenwire.providers.spec import Rung
from tokenwire.worker.resume.continuation import (
    Held,
    Plan,
    Run,
    as_of,
    folded,
    folded_whole,
    is_attachable,
    last_round,
    lost_in,
    mark_lost,
    may_resume,
    plan,
    still_proven,
    turn_start,
)


def entry(seq: int, event: events.AnyEvent) -> Entry:
    return Entry(seq, events.stamp(seq, events.encode(event)))


def chunk(seq: int, offset: int, content: str, message_id: str = "m") -> Entry:
    return entry(seq, events.Chunk(message_id, 1, offset, content, 0))


def with_parts(text: str, *parts: Part) -> Answer:
    """The text, and parts behind it."""
    made = answer(text)
    for part in parts:
        made.add(part)
    return made


def kept(**fields: object) -> Part:
    """An item that its provider can be sent back."""
    part = Part("provider", {"dialect": "d", "kind": "k", **fields})
    part.kept = {"dialect": "d", "kind": "k", "value": {}}
    return part


CALL = Part("tool_call", {"id": "1", "name": "f", "state": "proposed"}, text="{}")
STEP = Part("step", {})


def test_the_log_adds_what_the_checkpoint_lacks() -> None:
    """Events after the checkpoint's seq extend it."""
    found = folded(held("a😀", seq=4), [chunk(5, 3, "b"), chunk(6, 4, "ü")])
    assert (found.answer.content, found.seq) == ("a😀bü", 6)


def test_other_messages_are_ignored() -> None:
    """One log holds the events of a whole conversation."""
    found = folded(held("a", seq=4), [chunk(5, 9, "z", "other"), chunk(6, 1, "b")])
    assert (found.answer.content, found.seq) == ("ab", 6)


def test_a_hole_is_refused() -> None:
    """A piece beyond the end of the text means that something is missing."""
    with pytest.raises(Hole):
        folded(held("a", seq=4), [chunk(5, 2, "b")])


@pytest.mark.parametrize("best_rung", ["attach", "prefix", "turn", "restart", "none"])
def test_nothing_held_is_a_fresh_start(best_rung: Rung) -> None:
    """Without text nobody saw anything: no rung is needed."""
    assert plan(best_rung, held()).rung == "fresh"


@pytest.mark.parametrize("best_rung", ["prefix", "turn"])
def test_the_models_best_rung_is_taken(best_rung: Rung) -> None:
    """Text stays where the model can go on from it."""
    chosen = plan(best_rung, held("abc"))
    assert chosen.rung == best_rung
    assert chosen.keeps


def test_a_run_is_attached_to_even_before_there_is_text() -> None:
    """It goes on and is paid for; asking again would pay twice."""
    assert plan("attach", held(), attachable=True).rung == "attach"


def test_without_a_run_the_model_is_asked_in_a_turn() -> None:
    """The next rung that every chat model has."""
    assert plan("attach", held("abc")).rung == "turn"


def test_the_answer_is_cut_at_the_place_of_the_run() -> None:
    """The run says the rest again, whether the checkpoint or only the log holds it."""
    now = answer("abcd", "xy")
    then = as_of(now, Run("r", 4, 2, 2, 2))
    assert (then.content, then.reasoning, now.content) == ("ab", "xy", "abcd")
    assert as_of(now, Run("r", None)).parts == []
    assert is_attachable(Run("r", 4, 2, 2, 2), answer("abc", "xy"), now)


@pytest.mark.parametrize("run", [Run("r", 4, 3, 3), Run("r", 4, 1, 9), Run("r", 4, 0, 2), None])
def test_a_place_that_the_answer_never_had_is_none(run: Run | None) -> None:
    """Whatever wrote such a row, nothing is passed over that nobody has seen."""
    assert not is_attachable(run, answer("ab"), answer("abcd"))


def test_what_was_withdrawn_meanwhile_has_no_run() -> None:
    """Its place was in the text before."""
    assert not is_attachable(Run("r", 4, 1, 2), answer("ab"), answer("other"))


@pytest.mark.parametrize(
    ("parts", "resumable"),
    [
        ((kept(),), True),
        ((kept(), STEP, Part("text", {}, text="more")), True),
        ((kept(), CALL), False),
        ((kept(dropped=True),), False),
        ((kept(), kept(dropped=True)), False),
        ((kept(), Part("file", {"media_type": "image/png"})), False),
        ((Part("reasoning", {}), kept()), True),
        ((), False),
    ],
)
def test_a_turn_can_be_sent_back_or_it_cannot(parts: tuple[Part, ...], resumable: bool) -> None:
    """A call, a file, mere text, or a part that is lost: no provider resumes from it."""
    assert may_resume(with_parts("abc", *parts).parts) is resumable


TEXT = Part("text", {}, text="abc")
ROUND = Part("tool_call", {"id": "1", "name": "f", "state": "done", "result": 1}, text="{}")
UNKNOWN = Part("unknown", {})


@pytest.mark.parametrize(
    ("parts", "proven", "start"),
    [
        ([TEXT, STEP], 0, 0),
        ([STEP], 0, 0),
        ([TEXT, kept()], 2, 2),
        ([TEXT, kept(), STEP], 2, 3),
        ([TEXT, kept(), STEP, STEP], 2, 3),
        ([TEXT, kept(), STEP, TEXT], 2, 3),
    ],
)
def test_the_present_turn_begins_behind_what_is_proven(
    parts: list[Part], proven: int, start: int
) -> None:
    """And behind the one step that follows it."""
    assert turn_start(parts, proven) == start
    assert Held(with_parts("", *parts), 7, proven).turn_start == start


@pytest.mark.parametrize(
    ("parts", "proven", "really"),
    [
        ([TEXT, kept()], 2, 2),
        ([TEXT, kept(), STEP, TEXT], 2, 2),
        ([TEXT, kept(), UNKNOWN, TEXT], 2, 2),
        ([TEXT, kept(), TEXT], 2, 0),
        ([TEXT], 2, 0),
        ([TEXT, kept(dropped=True), STEP, TEXT], 2, 0),
        ([kept(), STEP, TEXT, kept(dropped=True), STEP], 4, 0),
        ([ROUND, STEP, TEXT, kept()], 4, 4),
        ([ROUND, STEP, TEXT, kept(dropped=True), STEP], 4, 1),
        ([ROUND, STEP, TEXT], 1, 1),
        ([TEXT, CALL], 2, 2),
    ],
)
def test_what_is_proven_no_more(parts: list[Part], proven: int, really: int) -> None:
    """Parts that a version before has withdrawn, and a paused turn that lacks a value: finished
    rounds in front of it stay.
    """
    assert still_proven(parts, proven) == really


def test_finished_rounds_end_with_their_step() -> None:
    """A pause is none: the paused turn goes back as one message."""
    assert last_round([TEXT, kept(), STEP, TEXT]) == 0
    assert last_round([ROUND, STEP, TEXT, kept(), STEP, TEXT]) == 2


def test_only_the_present_turn_decides_how_it_continues() -> None:
    """Calls of a proven turn do not forbid to continue text, and its text is none to continue."""
    before = [TEXT, ROUND, STEP]
    assert plan("prefix", Held(with_parts("", *before, TEXT), 0, 2)) == Plan("prefix")
    assert plan("prefix", Held(with_parts("", *before, CALL), 0, 2)) == Plan("restart")
    thought = Part("reasoning", {}, text="hm")
    assert plan("prefix", Held(with_parts("", *before, thought), 0, 2)) == Plan("restart")
    assert plan("none", Held(with_parts("", *before), 0, 2)) == Plan("resume")


def test_a_run_of_an_earlier_turn_is_over() -> None:
    """The present turn has another one, or none."""
    now = with_parts("abc", kept(), STEP, TEXT.copy())
    assert is_attachable(Run("r", 4, 3, 3), now, now, start=3)
    assert not is_attachable(Run("r", 4, 2, 3), now, now, start=3)


def test_an_item_without_its_value_was_lost_with_a_worker() -> None:
    """The log tells of it, and only the worker knew what it was."""
    items = [kept(), Part("provider", {"dialect": "d", "kind": "k"}), kept(dropped=True)]
    items[2].kept = None
    assert lost_in(Held(with_parts("a", *items))) == [2]
    assert lost_in(Held(with_parts("a", *items), 0, 3)) == []


@pytest.mark.parametrize(
    ("part", "certain"),
    [
        (Part("reasoning", {}), True),
        (Part("reasoning", {}, text="hm"), False),
        (Part("source", {"title": "T"}), True),
        (Part("source", {"url": "https://a"}), False),
        (Part("source", {"address": "doi:1"}), False),
        (Part("file", {"media_type": "image/png"}), False),
    ],
)
def test_some_parts_exist_only_because_something_was_kept(part: Part, certain: bool) -> None:
    """Of others nobody knows: readers would be told of a loss that may not be."""
    held = Held(with_parts("a", part))
    assert lost_in(held) == [1] * certain
    part.kept = {**LOST, "ends": True}
    assert lost_in(held) == [1] * certain
    part.kept = {"dialect": "d", "kind": "k", "value": {}}
    assert lost_in(held) == []


def test_a_paused_turn_is_resumed_whatever_else_the_model_could_do() -> None:
    """It is the only way that loses nothing."""
    for rung in ("attach", "none"):
        assert plan(rung, Held(with_parts("abc", kept(), STEP), 0, 2)) == Plan("resume")
    assert Plan("resume").keeps


@pytest.mark.parametrize("before", [with_parts("abc", CALL), answer("", "only thoughts")])
def test_stitching_is_refused_where_it_cannot_be_exact(before: Answer) -> None:
    """Tool calls, and reasoning without text, cannot be continued: start over."""
    assert plan("prefix", Held(before)).rung == "restart"


def test_json_is_never_stitched() -> None:
    """An answer that must be valid JSON starts over."""
    assert plan("prefix", held('{"a'), must_be_json=True).rung == "restart"


def test_a_model_that_cannot_go_on_keeps_the_text() -> None:
    """Rung 5: the partial text stays and the answer ends as interrupted."""
    chosen = plan("none", held("abc"))
    assert (chosen.rung, chosen.keeps) == ("none", True)


@pytest.mark.parametrize(
    ("first", "known"),
    [
        (events.Start("m", 1, "model"), True),
        (events.Reset("m", 2, 0, 0, 0), True),
        (events.Start("m", 2, "model"), False),
        (events.Reset("m", 2, 1, 0, 1), False),
    ],
)
def test_entries_alone_tell_the_text_if_it_begins_in_them(
    first: events.AnyEvent, known: bool
) -> None:
    """Or if nothing was before them."""
    there = [chunk(7, 0, "z", "other"), entry(8, first)]
    assert (folded_whole("m", there, from_first=False) is not None) is known
    nothing = folded_whole("m", [], from_first=True)
    assert nothing is not None
    assert nothing.answer.parts == []
    assert folded_whole("m", [], from_first=False) is None


# --- what a worker kept, and did not save -------------------------------------------------------


def unkept(type_: str, text: str = "", **fields: object) -> Part:
    """A part of which nothing is kept."""
    return Part(type_, fields, text=text)


def lost(saved: Answer, now: Answer, run_parts: int = 0, proven: int = 0) -> list[int]:
    """The parts that are marked."""
    mark_lost(saved, Held(now, 0, proven), run_parts)
    return [number for number, part in enumerate(now.parts) if part.kept == LOST]


KEEPING = {
    "reasoning": unkept("reasoning", "hm", at=1),
    "tool_call": CALL,
    "source": unkept("source", url="https://a", at=1),
    "file": unkept("file", media_type="image/png"),
    "provider": unkept("provider", dialect="d", kind="k", at=1),
}


@pytest.mark.parametrize("kind", KEEPING)
def test_a_part_that_was_not_saved_may_have_lost_what_was_kept(kind: str) -> None:
    """The worker before may have kept something with it, which no event tells."""
    assert lost(answer("a"), with_parts("a", KEEPING[kind].copy())) == [1]


@pytest.mark.parametrize("kind", ["text", "data", "step"])
def test_nothing_is_kept_of_other_parts(kind: str) -> None:
    """So nothing of them can be lost."""
    assert lost(Answer("m"), with_parts("", unkept(kind, "a" if kind == "text" else ""))) == []


@pytest.mark.parametrize("kind", sorted(KEEPING.keys() - {"reasoning"}))
def test_a_part_that_was_saved_as_it_is_has_lost_nothing(kind: str) -> None:
    """Changed since, it may have."""
    saved = with_parts("a", KEEPING[kind].copy())
    assert lost(saved, saved.copy()) == []
    now = saved.copy()
    now.parts[1].merge({"title": "new"})
    assert lost(saved, now) == [1]


def test_what_is_kept_is_not_lost() -> None:
    """Whatever else has changed."""
    assert lost(Answer("m"), with_parts("a", kept(at=1))) == []


def test_the_end_of_the_last_reasoning_may_be_lost() -> None:
    """It may have come behind later parts. Another reasoning is proof that it came before."""
    first, last = unkept("reasoning", "hm"), unkept("reasoning", "so")
    saved = with_parts("", first, unkept("text", "a"), last, unkept("text", "b"), STEP)
    assert lost(saved, saved.copy()) == [2]


@pytest.mark.parametrize(("run_parts", "marked"), [(0, [0]), (1, []), (2, [])])
def test_parts_before_the_place_of_a_run_have_all_that_is_kept(
    run_parts: int, marked: list[int]
) -> None:
    """A run has no place before the end of a reasoning has come."""
    saved = with_parts("", unkept("reasoning", "hm"), unkept("text", "a"))
    assert lost(saved, saved.copy(), run_parts) == marked
