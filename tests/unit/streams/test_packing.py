"""Blocks of events: exact, bounded, small."""

from hypothesis import given
from hypothesis import strategies as st

from streams.events import Chunk, encode, stamp
from streams.packing import pack, unpack
from streams.ports import Entry


@given(st.lists(st.binary(max_size=200), max_size=40), st.integers(1, 2**52))
def test_a_block_gives_back_what_was_packed(events: list[bytes], first: int) -> None:
    """Whatever the bytes are, empty ones among them, each with its seq."""
    assert unpack(first, pack(events)) == [Entry(first + place, data) for place, data in enumerate(events)]


def test_chunks_of_an_answer_take_a_tenth() -> None:
    """What the memory per finished answer rests on."""
    message_id = "0198f7c2-6a51-7c3e-9b1d-3f5a8e2d4c6b"
    words = ["Whoever", "falls", "behind", "is", "served", "from", "the", "log", "and", "never", "from", "a", "queue", "that", "grows"]
    events = [stamp(seq, encode(Chunk(message_id, 1, 4 * seq, words[seq * seq % len(words)]))) for seq in range(1, 257)]
    assert len(pack(events)) < sum(map(len, events)) / 10
