"""worker.attempt.draft: what is kept of parts, files, and runs that are attached to again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.answers import held
from tokenwire.protocol import events
from tokenwire.protocol.files import address_of, digest_of
from tokenwire.protocol.fold import Answer, Part
from tokenwire.providers import base
from tokenwire.worker.attempt.draft import Draft, StartingPoint
from tokenwire.worker.resume.continuation import Held, Run


def acknowledge(draft: Draft, seq: int) -> None:
    draft.batch()
    draft.acknowledged(seq)


KEPT = base.Kept("d", "k", {"x": 1})
EVERYTHING: list[base.Delta] = [
    base.ReasoningDelta("hm"),
    base.ReasoningEnd(KEPT),
    base.TextDelta("Oslo "),
    base.TextDelta("is cold"),
    base.SourceDelta("https://a", cites=(4, 0), kept=KEPT),
    base.KeptDelta("d", "item", {"n": 1}),
    base.TextDelta("."),
    base.ToolCallStart(0, "c", "f"),
    base.ToolCallArguments(0, '{"a":'),
    base.ToolCallArguments(0, "1}"),
    base.ToolCallEnd(0, KEPT),
    base.ReasoningDelta("so"),
    base.ReasoningEnd(),
    base.ReasoningDelta("late"),
    base.TextDelta("Look:"),
    base.ReasoningEnd(KEPT),
    base.FileDelta("image/png", b"x", kept=KEPT),
    base.TextDelta("Bye"),
]


def said(answer: Answer) -> list[tuple[object, ...]]:
    """All of an answer, what is kept included."""
    return [
        (part.type, part.text, dict(part.fields), part.kept and dict(part.kept))
        for part in answer.parts
    ]


def test_what_is_kept_belongs_to_what_was_acknowledged() -> None:
    """A checkpoint does not put new values beside old parts; it is due once there are any."""
    draft = Draft(held("old"), 1)
    draft.take([base.Restart(), base.KeptDelta("d", "k", {"n": 1})])
    draft.batch()
    assert (draft.uncheckpointed, said(draft.answer)[0][3]) == (0, None)
    draft.acknowledged(1)
    assert draft.uncheckpointed
    [part] = draft.checkpoint()[0].parts
    assert part.kept == {"dialect": "d", "kind": "k", "value": {"n": 1}}
    draft.saved(1)
    assert not draft.checkpoint()[0]


def test_what_came_without_an_event_is_kept_at_once() -> None:
    """A signature behind a thought that readers have already."""
    draft = Draft(held(), 1)
    draft.take([base.ReasoningDelta("hm")])
    acknowledge(draft, 1)
    draft.checkpoint()
    draft.take([base.ReasoningEnd(KEPT)])
    assert (draft.idle, draft.uncheckpointed) == (True, 1)
    assert draft.answer.parts[0].kept


def test_what_came_without_an_event_waits_for_those_before_it() -> None:
    """The part may not be acknowledged yet."""
    draft = Draft(held(), 1)
    draft.take([base.ReasoningDelta("hm")])
    draft.batch()
    draft.take([base.ReasoningEnd(KEPT)])
    draft.acknowledged(1)
    assert draft.idle
    assert draft.answer.parts[0].kept


@given(st.lists(st.integers(1, len(EVERYTHING))), st.integers(0, len(EVERYTHING)))
def test_a_run_that_is_attached_to_gives_the_answer_once(cuts: list[int], place: int) -> None:
    """From any place of the run, whatever more than that readers hold: the parts of one attempt."""
    whole = Draft(held(), 1)
    whole.take(EVERYTHING)
    acknowledge(whole, 1)
    first = Draft(held(), 1)
    for at, delta in enumerate(EVERYTHING[:place]):
        first.take([delta])
        first.reached("run", at + 1)
        if at in cuts:
            acknowledge(first, at + 1)
    if place in cuts:
        acknowledge(first, place + 1)
    run = first.run or Run("run", None)
    second = Draft(Held(first.answer, first.seq), 2, StartingPoint(run=run))
    reader = first.answer.copy()
    for at, delta in enumerate(EVERYTHING[run.cursor or 0 :]):
        second.take([delta])
        if at in cuts:
            for event in second.batch():
                assert not isinstance(event, events.Reset)
                reader.apply(event)
            second.acknowledged(at + 50)
    for event in second.batch():
        reader.apply(event)
    second.acknowledged(100)
    assert said(second.answer) == said(whole.answer)
    assert reader.layout() == whole.answer.layout()


def test_a_run_that_says_something_else_takes_the_place_of_what_is_held() -> None:
    """Readers are told of it by a reset."""
    draft = Draft(held("abcd"), 2, StartingPoint(run=Run("run", 1, 1, 2)))
    draft.take([base.TextDelta("x")])
    assert draft.idle
    draft.take([base.TextDelta("yz")])
    assert [type(event).__name__ for event in draft.batch()] == ["Reset", "Chunk"]
    acknowledge(draft, 9)
    assert draft.answer.content == "abxyz"


def test_files_wait_to_be_stored() -> None:
    """Once they are, nobody holds their bytes any more."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("a"), base.FileDelta("image/png", b"abc")])
    assert {number: file.data for number, file in draft.unstored_files().items()} == {1: b"abc"}
    draft.file_stored(1)
    assert draft.unstored_files() == {}
    assert "url" in draft.batch()[1].value  # type: ignore[union-attr]


def test_a_file_that_is_not_stored_has_no_address() -> None:
    """Its part says that it is dropped; nothing is left over of what waited."""
    draft = Draft(held(), 1)
    draft.take([base.FileDelta("image/png", b"abc"), base.TextDelta("a")])
    draft.file_refused(0)
    [event, _] = draft.batch()
    value = {"type": "file", "media_type": "image/png", "size": 3, "dropped": True}
    assert isinstance(event, events.PartEvent)
    assert event.value == value
    draft.acknowledged(1)
    assert draft.pending_chars == 0
    assert draft.answer.layout() == [value, {"type": "text", "length": 1}]


def test_a_step_is_told_before_what_the_next_request_gives() -> None:
    """The turn was paused; what comes now is behind that place."""
    draft = Draft(held("a"), 1)
    draft.prove()
    draft.step()
    draft.next_request()
    draft.take([base.TextDelta("b")])
    acknowledge(draft, 5)
    assert [part.type for part in draft.answer.parts] == ["text", "step", "text"]
    assert draft.held.proven == 1


def later_turn() -> Draft:
    """A paused turn, and a second one of which readers hold text and reasoning."""
    draft = Draft(held("a", "hm"), 1, StartingPoint(seams=[1]))
    draft.prove()
    draft.step()
    draft.next_request()
    draft.take([base.ReasoningDelta("so"), base.TextDelta("bcd")])
    acknowledge(draft, 5)
    draft.seams.append(2)
    return draft


@pytest.mark.parametrize("how", ["withdrawn", "restarted"])
def test_only_the_present_turn_is_withdrawn(how: str) -> None:
    """The turn before and the step stay, with their seams and what they have added."""
    draft = later_turn()
    draft.take([base.Restart()]) if how == "restarted" else draft.withdraw()
    assert draft.batch() == [events.Reset("m", 1, keep=1, keep_reasoning=2, keep_parts=3)]
    draft.acknowledged(6)
    assert (draft.seams, draft.added, draft.held.turn_start) == ([1], 0, 3)
    draft.take([base.TextDelta("x")])
    acknowledge(draft, 7)
    assert [part.text for part in draft.answer.parts] == ["hm", "a", "", "x"]


def test_what_a_proven_turn_added_stays_added() -> None:
    """It is progress, whatever becomes of the next turn."""
    draft = Draft(held(), 1)
    draft.take([base.TextDelta("abc")])
    acknowledge(draft, 1)
    draft.prove()
    draft.step()
    draft.take([base.TextDelta("de"), base.Restart(), base.TextDelta("f")])
    acknowledge(draft, 2)
    assert (draft.added, draft.answer.content) == (4, "abcf")


def test_a_checkpoint_proves_no_more_than_it_saves() -> None:
    """The step and what follows belong to no proven turn; before the pause nothing is proven."""
    draft = Draft(held("a"), 1)
    assert draft.proven == 0
    draft.prove()
    draft.step()
    assert draft.proven == len(draft.answer.parts) == 1, "the step is not acknowledged"
    acknowledge(draft, 1)
    assert (draft.proven, draft.held.turn_start) == (1, 2)


def test_a_run_ends_with_its_turn() -> None:
    """Nobody attaches to it behind the pause."""
    draft = Draft(held("a"), 1, StartingPoint(run=Run("run", 1, 1, 1)))
    draft.prove()
    draft.step()
    assert draft.run is None


def test_the_next_turn_keeps_values_whatever_the_turn_before_has_lost() -> None:
    """Each turn goes back by itself."""
    draft = Draft(held("a"), 1, StartingPoint(continues=True))
    draft.drop(0)
    draft.prove()
    draft.take([base.KeptDelta("d", "k", {"n": 1})])
    acknowledge(draft, 1)
    assert draft.answer.parts[1].kept is not None


def test_what_an_earlier_worker_kept_and_did_not_save_is_dropped() -> None:
    """The part says so in the log, too; and nothing else is kept from then on."""
    before = held()
    before.answer.add(Part("provider", {"dialect": "d", "kind": "k"}))
    draft = Draft(before, 2)
    draft.drop(0)
    draft.take([base.KeptDelta("d", "k", {"n": 1})])
    acknowledge(draft, 3)
    assert [part.fields.get("dropped") for part in draft.answer.parts] == [True, None]
    assert not any(part.kept for part in draft.answer.parts)


def with_lost(first: str, second: str) -> Held:
    """Two texts; between them an item of which nothing was kept, and a file elsewhere."""
    made = held(first)
    at = len(first)
    made.answer.add(Part("provider", {"dialect": "d", "kind": "k", "at": at}))
    made.answer.add(Part("file", {"media_type": "image/png", "url": "https://i"}))
    made.answer.add(Part("text", {}, text=second))
    return made


def test_a_run_has_no_place_before_the_end_of_a_reasoning_has_come() -> None:
    """Even behind later parts: what comes with the end would find no reasoning."""
    draft = Draft(held(), 1)
    draft.reached("run", None)
    draft.take([base.ReasoningDelta("hm"), base.TextDelta("a")])
    draft.reached("run", 2)
    acknowledge(draft, 2)
    assert draft.run == Run("run", None)
    draft.take([base.ReasoningEnd(KEPT)])
    draft.reached("run", 3)
    assert draft.run == Run("run", 3, 2, 1, 2)
    assert [bool(part.kept) for part in draft.answer.parts] == [True, False]


def test_a_run_that_says_again_what_is_kept_has_no_place_behind_it() -> None:
    """Until it has caught up: a worker that dies before would leave a run behind what it lost."""
    draft = Draft(with_lost("ab", "cd"), 2, StartingPoint(run=Run("run", None)))
    draft.take([base.TextDelta("ab"), base.KeptDelta("d", "k", {"n": 1})])
    draft.reached("run", 2)
    assert draft.run == Run("run", None)
    draft.take([base.FileDelta("image/png", url="https://i"), base.TextDelta("cd")])
    draft.reached("run", 4)
    acknowledge(draft, 9)
    assert draft.run == Run("run", 4, 4, 4)
    assert draft.answer.parts[1].kept


def test_a_run_that_is_read_again_with_all_that_is_kept_has_places() -> None:
    """Nothing of what comes before them is lost."""
    before = with_lost("ab", "cd")
    before.answer.parts[1].kept = {"dialect": "d", "kind": "k", "value": {"n": 1}}
    draft = Draft(before, 2, StartingPoint(run=Run("run", None)))
    draft.take([base.TextDelta("ab"), base.KeptDelta("d", "k", {"n": 1})])
    draft.reached("run", 2)
    assert draft.run == Run("run", 2, 2, 2)


def with_picture(**fields: object) -> Held:
    """Readers hold a text, the part of a file, and another text."""
    made = held("a")
    made.answer.add(Part("file", {"media_type": "image/png", "size": 3, **fields}))
    made.answer.add(Part("text", {}, text="b"))
    return made


@pytest.mark.parametrize(
    "fields", [{"url": address_of("m", digest_of(b"abc"))}, {"dropped": True}], ids=str
)
def test_a_file_that_readers_hold_is_settled(fields: dict[str, object]) -> None:
    """A run that says it again changes nothing: its bytes were stored, or were refused."""
    draft = Draft(with_picture(**fields), 2, StartingPoint(run=Run("run", None)))
    again = [base.TextDelta("a"), base.FileDelta("image/png", b"abc"), base.TextDelta("b")]
    for delta in again:
        draft.take([delta])
    assert (draft.unstored_files(), draft.batch()) == ({}, [])
    draft.take([base.FileDelta("image/png", b"def")])
    assert list(draft.unstored_files()) == [3]
    [event] = draft.batch()
    assert isinstance(event, events.PartEvent)
    assert event.value["url"] == address_of("m", digest_of(b"def"))
    acknowledge(draft, 9)
    assert draft.answer.parts[1].fields.items() >= fields.items()
