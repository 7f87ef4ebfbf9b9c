"""worker/ending.py: what is left to store of an answer with parts if the database refuses it."""

from tokenwire.models.answers import Checkpoint, Ending
from tokenwire.models.parts import StoredPart
from tokenwire.models.unsaved import PartsToSave
from tokenwire.worker.ending import smaller_checkpoints, text_only


def test_the_text_of_every_part_is_saved() -> None:
    """Parts that have ended stand beside the row: their text is as much of the answer as any."""
    parts = (
        StoredPart(0, "reasoning", "Hm", None, {"dialect": "d"}),
        StoredPart(1, "source", None, {"url": "\0", "at": 3}, None),
    )
    whole = Checkpoint("m", 1, "So", "", "e", 5, changes=PartsToSave(parts, 0))
    *_, last = smaller_checkpoints(whole)
    assert last.content == "So"
    assert last.changes.deleted_from == 0
    assert [(part.number, part.type, part.text, part.value) for part in last.changes.parts] == [
        (0, "reasoning", "Hm", {"dropped": True}),
        (1, "source", None, {"dropped": True, "at": 3}),
    ]


def test_an_end_without_its_layout_keeps_its_text() -> None:
    """What was stored is what the terminal event attests."""
    layout = [{"type": "text", "length": 2}, {"type": "data", "name": "\0"}]
    ending = Ending(
        *("m", 1, "complete", "So", "Hm", "e", 5),
        parts=layout,
        parts_kept=[{"part": 1, "dialect": "d"}],
    )
    left = text_only(ending)
    assert (left.content, left.reasoning) == ("So", "Hm")
    assert (left.parts, left.parts_kept) == (None, None)
