"""web/aisdk/completions.py by example (../openai/test_replay.py: any history)."""

import pytest

from tests.unit.protocol.histories import ID
from tests.unit.web.histories import fed
from tokenwire.protocol.events import Chunk, Reset
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.sent import Withdrawn
from tokenwire.web.aisdk.completions import TextEncoder


def test_text_that_comes_again_is_sent_once() -> None:
    """Also in other pieces, and only what lies behind it is sent."""
    encoder = TextEncoder(Answer(ID))
    events = [Chunk(ID, 1, 0, "Hello", 0), Reset(ID, 2, 2, 0, 1), Chunk(ID, 2, 2, "ll", 0)]
    assert [fed(encoder, event) for event in events] == [b"Hello", b"", b""]
    assert fed(encoder, Chunk(ID, 2, 4, "o you", 0)) == b" you"


def test_another_text_cannot_replace_what_was_sent() -> None:
    """The stream is cut: it is of text alone, which nothing can withdraw."""
    encoder = TextEncoder(Answer(ID))
    for event in (Chunk(ID, 1, 0, "Hello", 0), Reset(ID, 2, 2, 0, 1)):
        fed(encoder, event)
    with pytest.raises(Withdrawn):
        fed(encoder, Chunk(ID, 2, 2, "y", 0))


def test_a_whole_document_is_sent_at_the_end() -> None:
    """What came before the reset was sent to nobody."""
    encoder = TextEncoder(Answer(ID), whole=True)
    events = [Chunk(ID, 1, 0, "Hello", 0), Reset(ID, 2, 2, 0, 1), Chunk(ID, 2, 2, "y", 0)]
    assert [fed(encoder, event) for event in events] == [b"", b"", b""]
