"""Pure: blocks of consecutive events at rest: many in one block, compressed, restored byte for
byte.

Events of an answer resemble each other, and each stream entry costs Redis memory. A block is the
zlib-compressed sequence of each event's length (four bytes) and text. It does not depend on the
meaning of events.

A damaged block is noticed by zlib's checksum, by its count and lengths, and by the seq in each
event.
"""

import struct
import zlib
from collections.abc import Sequence

from tokenwire.protocol.events import Entry, has_stamp

BLOCK_EVENTS = 256
BLOCK_BYTES = 64 * 1024
"""Maximum size of a block, except for a single larger event. A reader of any part reads the whole
block, so it is no larger than a slow reader's page.
"""


class DamagedBlock(Exception):
    """A block differs from what `pack` created for its events; the last of them is `last`."""

    def __init__(self, last: int, reason: object) -> None:
        super().__init__(f"the block up to seq {last} is damaged: {reason}")
        self.last = last


def pack(events: Sequence[bytes]) -> bytes:
    """The events as one block."""
    lengths = struct.pack(f">I{len(events)}I", len(events), *map(len, events))
    return zlib.compress(lengths + b"".join(events))


def unpack(first: int, last: int, block: bytes) -> list[Entry]:
    """The events `first` to `last` of the block. Raises DamagedBlock."""
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
