"""Blocks of packed events are exact, bounded and small."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol.events import Chunk, Entry, encode, stamp
from tokenwire.streams.log.packing import DamagedBlock, pack, unpack

bodies = st.lists(st.binary(max_size=200).map(lambda body: b"{" + body), min_size=1, max_size=40)


def stamped(first: int, bodies: list[bytes]) -> list[bytes]:
    return [stamp(seq, body) for seq, body in enumerate(bodies, first)]


@given(bodies, st.integers(1, 2**52))
def test_a_block_gives_what_was_packed(bodies: list[bytes], first: int) -> None:
    """For any bytes, each with its seq."""
    events = stamped(first, bodies)
    assert unpack(first, first + len(events) - 1, pack(events)) == [
        Entry(seq, data) for seq, data in enumerate(events, first)
    ]


@given(bodies, st.integers(1, 2**52), st.data())
def test_a_damaged_block_is_recognised(
    bodies: list[bytes], first: int, data: st.DataObject
) -> None:
    """Changed, missing, additional and empty bytes raise an error, or give what was packed."""
    events = stamped(first, bodies)
    block = bytearray(pack(events))
    place = data.draw(st.integers(0, len(block) - 1))
    how = data.draw(st.sampled_from(["change", "cut", "insert"]))
    if how == "change":
        block[place] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del block[place:]
    else:
        block.insert(place, data.draw(st.integers(0, 255)))
    try:
        held = unpack(first, first + len(events) - 1, bytes(block))
    except DamagedBlock:
        return
    assert [entry.data for entry in held] == events


def test_a_block_of_other_events_is_damage() -> None:
    """It may be intact and in the wrong place, so its own header is not trusted."""
    block = pack(stamped(5, [b"{}", b"{}"]))
    for first, last in [(4, 5), (5, 5), (5, 7), (6, 7), (6, 5)]:
        with pytest.raises(DamagedBlock):
            unpack(first, last, block)
    whole = zlib.decompress(block)
    for data in (whole + b"x", whole[:-1]):  # each event begins as it should
        with pytest.raises(DamagedBlock):
            unpack(5, 6, zlib.compress(data))
    for data in (b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\2\0\0\0\1\0\0\0\1x", pack([])):
        with pytest.raises(DamagedBlock):
            unpack(5, 6, zlib.compress(data) if data else data)


def test_chunks_shrink_to_a_tenth() -> None:
    """The memory per finished answer depends on it."""
    message_id = "0198f7c2-6a51-7c3e-9b1d-3f5a8e2d4c6b"
    words = [
        "Whoever",
        "falls",
        "behind",
        "is",
        "served",
        "from",
        "the",
        "log",
        "and",
        "never",
        "from",
        "a",
        "queue",
        "that",
        "grows",
    ]
    events = [
        stamp(seq, encode(Chunk(message_id, 1, 4 * seq, words[seq * seq % len(words)], 0)))
        for seq in range(1, 257)
    ]
    assert len(pack(events)) < sum(map(len, events)) / 10
