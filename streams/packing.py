"""Pure: how consecutive events of a log are kept at rest: many in one block, compressed, and given back byte for byte.

Events of an answer resemble each other, and an entry of a stream costs Redis memory of its own. A block is what zlib makes of the
length of each event (four bytes) and the events themselves. Nothing in it depends on what an event means.
"""

import struct
import zlib
from collections.abc import Sequence

from streams.ports import Entry

BLOCK_EVENTS = 256
BLOCK_BYTES = 256 * 1024
"""A block holds no more than this, but for one event that is larger by itself: whoever wants one event of it unpacks all."""


def pack(events: Sequence[bytes]) -> bytes:
    """The events as one block."""
    lengths = struct.pack(f">I{len(events)}I", len(events), *map(len, events))
    return zlib.compress(lengths + b"".join(events))


def unpack(first: int, block: bytes) -> list[Entry]:
    """What a block holds; `first` is the seq of the first event."""
    data = zlib.decompress(block)
    (count,) = struct.unpack_from(">I", data)
    lengths = struct.unpack_from(f">{count}I", data, 4)
    entries: list[Entry] = []
    start = 4 + 4 * count
    for seq, length in enumerate(lengths, first):
        entries.append(Entry(seq, data[start : start + length]))
        start += length
    return entries
