"""models/unsaved.py with models/parts.py: whatever happens to checkpoints, the rows give the
answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import many
from tests.unit.protocol.histories import HISTORIES, ID, written
from tests.unit.protocol.test_histories import seen
from tokenwire.models.parts import StoredPart, assembled, open_texts
from tokenwire.models.unsaved import PartsToSave, UnsavedParts
from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer

WHAT_BEFALLS = st.sampled_from(
    [
        *["event"] * 6,
        *["take"] * 3,
        *["commit"] * 3,
        *["confirm"] * 3,
        *("lose", "keep", "takeover"),
    ]
)


@dataclass
class Save:
    """A running checkpoint, and the answer that its rows must give."""

    number: int
    seq: int
    attempt: int
    count: int
    open_text: tuple[int | None, str]
    open_reasoning: tuple[int | None, str]
    parts: PartsToSave
    answer: Answer
    committed: bool = False


@dataclass
class Row:
    """A message's row and those of its parts, with the database's fence."""

    saved: Save
    attempt: int = 1
    saves: int = 0
    parts: dict[int, StoredPart] = field(default_factory=dict)

    def commit(self, save: Save) -> None:
        """No effect if a newer one is stored or another attempt has begun."""
        if save.attempt != self.attempt or self.saves > save.number:
            return
        self.saves, self.saved = save.number, save
        first = save.parts.deleted_from
        if first is not None:
            self.parts = {n: part for n, part in self.parts.items() if n < first}
        self.parts |= {part.number: part for part in save.parts.parts}

    def answer(self) -> Answer:
        """The answer that a reader gets from the rows."""
        last = self.saved
        return assembled(last.count, last.open_text, last.open_reasoning, self.parts.values())


class Worker:
    """An attempt that saves what it applies, and everything that can happen to its checkpoints."""

    def __init__(self, log: Sequence[events.AnyEvent]) -> None:
        self.log, self.at, self.attempt = log, 0, 1
        self.answer, self.unsaved = Answer(ID), UnsavedParts()
        self.under_way: list[Save] = []
        empty = (None, "")
        self.row = Row(Save(0, 0, 1, 0, empty, empty, PartsToSave(), Answer(ID)))

    def event(self, _place: int) -> None:
        if self.at < len(self.log):
            event = self.log[self.at]
            self.unsaved.applied(event, self.answer.apply(event))
            self.at += 1

    def keep(self, place: int) -> None:
        """The provider sends a kept value of a part."""
        if self.answer.parts:
            number = place % len(self.answer.parts)
            self.answer.parts[number].kept = {"dialect": "d", "value": {"place": place}}
            self.unsaved.touched([number])

    def take(self, _place: int) -> None:
        texts, numbers = (
            open_texts(self.answer),
            (self.answer.open_text, self.answer.open_reasoning),
        )
        parts = self.unsaved.take(self.answer)
        ends = zip(numbers, texts, strict=True)
        known = self.answer.copy()
        count = len(known.parts)
        save = Save(self.unsaved.saves, self.at, self.attempt, count, *ends, parts, known)
        self.under_way.append(save)

    def commit(self, place: int) -> None:
        """In any order, before the sender knows."""
        if self.under_way:
            save = self.under_way[place % len(self.under_way)]
            self.row.commit(save)
            save.committed = True

    def confirm(self, place: int) -> None:
        """The sender learns that it was committed, or refused for a newer one."""
        done = [save for save in self.under_way if save.committed]
        if done:
            save = done[place % len(done)]
            self.under_way.remove(save)
            if save.attempt == self.attempt:
                self.unsaved.saved(save.number)

    def lose(self, place: int) -> None:
        """Locked, refused, or its reply was lost: then nobody knows whether it was committed."""
        if self.under_way:
            del self.under_way[place % len(self.under_way)]

    def takeover(self, _place: int) -> None:
        """Another attempt reads the rows, and the log after them."""
        self.attempt += 1
        self.row.attempt, self.row.saves = self.attempt, 0
        self.answer = self.row.answer()
        self.answer.id = ID
        last = self.row.saved
        row = SimpleNamespace(
            part_count=last.count,
            open_text=last.open_text[0],
            open_reasoning=last.open_reasoning[0],
        )
        saved = self.answer.copy()
        for event in self.log[last.seq : self.at]:
            self.answer.apply(event)
        self.unsaved = UnsavedParts.following(row, saved, self.answer)


def held(answer: Answer) -> dict[str, Any]:
    """Everything of an answer that a checkpoint stores."""
    kept = [part.kept and dict(part.kept) for part in answer.parts]
    return seen(answer) | {"end": None, "waits": None, "kept": kept}


@settings(max_examples=many(600))
@given(HISTORIES, st.lists(st.tuples(WHAT_BEFALLS, st.integers(0, 7)), min_size=20, max_size=80))
def test_the_rows_give_the_answer_as_it_was_saved(history: Any, befalls: Any) -> None:
    """Two running, late, lost, refused, taken over: always the last committed one."""
    worker = Worker(written((history[0], None)).events)
    for name, place in befalls:
        getattr(worker, name)(place)
        row, saved = worker.row, worker.row.saved
        assert held(row.answer()) == held(saved.answer)
        open_parts = {saved.open_text[0], saved.open_reasoning[0]}
        assert set(row.parts) - open_parts == set(range(saved.count)) - open_parts
        assert all(row.parts[n].text is None for n in open_parts & set(row.parts))


def stored_by(answer: Answer, unsaved: UnsavedParts) -> list[int]:
    return [part.number for part in unsaved.take(answer).parts]


def applied(answer: Answer, unsaved: UnsavedParts, *told: events.AnyEvent) -> None:
    for event in told:
        unsaved.applied(event, answer.apply(event))


def test_growing_text_has_no_row() -> None:
    """A plain answer writes none, however often it is saved."""
    answer, unsaved = Answer(ID), UnsavedParts()
    for offset, word in enumerate("abc"):
        applied(answer, unsaved, events.Chunk(ID, 1, offset, word, 0))
        assert stored_by(answer, unsaved) == []


def test_a_kept_value_of_a_text_is_written_once() -> None:
    """However long the text still grows; at its end it is written with the text."""
    answer, unsaved = Answer(ID), UnsavedParts()
    applied(answer, unsaved, events.Chunk(ID, 1, 0, "a", 0))
    answer.parts[0].kept = {"dialect": "d"}
    unsaved.touched([0])
    assert stored_by(answer, unsaved) == [0]
    unsaved.saved(1)
    for offset in (1, 2, 3):
        applied(answer, unsaved, events.Chunk(ID, 1, offset, "a", 0))
        assert stored_by(answer, unsaved) == []
    applied(answer, unsaved, events.PartEvent(ID, 1, 1, {"type": "step"}))
    first, second = unsaved.take(answer).parts
    assert (first.text, first.kept, second.type) == ("aaaa", {"dialect": "d"}, "step")


def test_stored_parts_are_not_written_again() -> None:
    """Until they change. The checkpoint that sees the end of a text writes its part."""
    answer, unsaved = Answer(ID), UnsavedParts()
    applied(answer, unsaved, events.Reasoning(ID, 1, 0, "Hm", 0))
    assert stored_by(answer, unsaved) == []
    unsaved.saved(1)
    applied(answer, unsaved, events.Chunk(ID, 1, 0, "a", 1))
    assert stored_by(answer, unsaved) == [0]
    assert stored_by(answer, unsaved) == [0]  # it is unknown whether it is stored
    unsaved.saved(2)
    assert stored_by(answer, unsaved) == []
    applied(answer, unsaved, events.PartEvent(ID, 1, 0, {"type": "reasoning", "x": 1}))
    assert stored_by(answer, unsaved) == [0]


def test_a_change_outlives_a_checkpoint_without_it() -> None:
    """A call completes while the checkpoint with its beginning is running."""
    answer, unsaved = Answer(ID), UnsavedParts()
    value = {"type": "tool_call", "id": "c", "name": "n", "state": "streaming"}
    applied(answer, unsaved, events.PartEvent(ID, 1, 0, value))
    assert stored_by(answer, unsaved) == [0]
    applied(answer, unsaved, events.PartEvent(ID, 1, 0, {"type": "tool_call", "state": "proposed"}))
    unsaved.saved(1)
    (part,) = unsaved.take(answer).parts
    assert part.value is not None
    assert part.value["state"] == "proposed"


def test_rows_that_a_reset_leaves_are_deleted() -> None:
    """By each checkpoint until one is stored: the new answer has other parts under these
    numbers.
    """
    answer, unsaved = Answer(ID), UnsavedParts()
    applied(answer, unsaved, events.PartEvent(ID, 1, 0, {"type": "step"}))
    applied(answer, unsaved, events.PartEvent(ID, 1, 1, {"type": "step"}))
    assert unsaved.take(answer).deleted_from is None
    applied(answer, unsaved, events.Reset(ID, 1, 0, 0, 1))
    unsaved.saved(1)  # it was taken before the reset
    assert unsaved.take(answer) == PartsToSave((), 1)
    assert unsaved.take(answer) == PartsToSave((), 1)
    unsaved.saved(2)
    assert unsaved.take(answer) == PartsToSave((), None)


def test_of_two_resets_the_lower_one_counts() -> None:
    """While neither is stored; later parts are written."""
    answer, unsaved = Answer(ID), UnsavedParts(rows=range(3))
    step = {"type": "step"}
    applied(answer, unsaved, *(events.PartEvent(ID, 1, number, step) for number in range(3)))
    applied(answer, unsaved, events.Reset(ID, 1, 0, 0, 0), events.PartEvent(ID, 1, 0, step))
    applied(answer, unsaved, events.PartEvent(ID, 1, 1, step), events.Reset(ID, 1, 0, 0, 1))
    parts, first = unsaved.take(answer)
    assert ([part.number for part in parts], first) == ([0], 0)


def test_a_text_that_grows_again_moves_back() -> None:
    """A reset withdraws what ended it: the message's row has its text from then on."""
    answer, unsaved = Answer(ID), UnsavedParts()
    applied(answer, unsaved, events.Chunk(ID, 1, 0, "a", 0))
    applied(answer, unsaved, events.PartEvent(ID, 1, 1, {"type": "step"}))
    assert [part.text for part in unsaved.take(answer).parts] == ["a", None]
    unsaved.saved(1)
    applied(answer, unsaved, events.Reset(ID, 1, 1, 0, 1))
    assert unsaved.take(answer) == PartsToSave((StoredPart(0, "text", None, None, None),), 1)
