"""Pure: how consecutive events of a log are kept at rest: many in one block, compressed, and given back byte for byte.

Events of an answer resemble each other, and an entry of a stream costs Redis memory of its own. A block is what zlib makes of the
length of each event (four bytes) and the events themselves. Nothing in it depends on what an event means.

A block that was damaged is noticed: by zlib's checksum, by its count and lengths, and by the seq that each event bears.
"""

import struct
import zlib
from collections.abc import Sequence

from tokenwire.protocol.events import Entry, has_stamp

BLOCK_EVENTS = 256
BLOCK_BYTES = 64 * 1024
"""A block holds no more than this, but for one event that is larger by itself. Whoever wants a part of it reads all of it, so it is no
larger than the page that a slow reader takes at a time."""


class DamagedBlock(Exception):
    """A block is not what `pack` made of the events that it stands for; the last of them is `last`."""

    def __init__(self, last: int, reason: object) -> None:
        super().__init__(f"the block up to seq {last} is damaged: {reason}")
        self.last = last


def pack(events: Sequence[bytes]) -> bytes:
    """The events as one block."""
    lengths = struct.pack(f">I{len(events)}I", len(events), *map(len, events))
    return zlib.compress(lengths + b"".join(events))


def unpack(first: int, last: int, block: bytes) -> list[Entry]:
    """The events `first` to `last`, which the block stands for. Raises Damaged."""
    try:
        data = zlib.decompress(block)
        (count,) = struct.unpack_from(">I", data)
        lengths = struct.unpack_from(f">{count}I", data, 4)
    except (zlib.error, struct.error) as error:
        raise DamagedBlock(last, error) from error
    start = 4 + 4 * count
    if count == 0 or count != last - first + 1 or len(data) != start + sum(lengths):
        raise DamagedBlock(
            last, f"{count} events in {len(data)} bytes, {last - first + 1} expected"
        )
    entries: list[Entry] = []
    for seq, length in enumerate(lengths, first):
        entries.append(Entry(seq, data[start : start + length]))
        start += length
    if not all(has_stamp(*entry) for entry in entries):
        raise DamagedBlock(last, "it holds other events")
    return entries
