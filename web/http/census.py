"""Pure: the number of values in a JSON text, found before parsing at a fraction of its cost.

Parsing costs as much as there are values, not bytes: 16 MiB of `[],[],...` are five million lists.
A census goes through the text in slices, so that other threads can run, and counts what is outside
of strings. For invalid JSON its result is undefined; the parser finds that.

Rejected: a limit on bytes alone (a small one would refuse long texts, a large one lets millions of
values pass).
"""

from dataclasses import dataclass
from itertools import accumulate

SLICE_BYTES = 64 * 1024
_NO_STRUCTURE = bytes(set(range(256)) - set(b",[]{}"))
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_DIGITS_ALIKE = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * 19
"""An integer with this many digits may exceed 64 bits."""
_ZERO = b"\\u0000"


class TooMany(Exception):
    """More values than allowed."""


@dataclass(frozen=True, slots=True)
class Census:
    """`values`: items, members, and their containers. `depth`: of nested lists and objects.

    `plain`: neither U+0000 nor a number that may exceed 64 bits.
    """

    values: int
    depth: int
    plain: bool


def take(text: bytes, most: int | None = None) -> Census:
    """The census of a text. Raises TooMany at more than `most` values (None: unlimited)."""
    counting = _ValueCounter()
    for start in range(0, len(text), SLICE_BYTES):
        counting.go_on(text[start : start + SLICE_BYTES])
        if most is not None and counting.values > most:
            raise TooMany(most)
        counting.plain = counting.plain and _is_plain(
            text[max(0, start - len(_LONG_NUMBER)) : start + SLICE_BYTES]
        )
    return Census(counting.values, counting.deepest, counting.plain)


class _ValueCounter:
    def __init__(self) -> None:
        self.values = self.deepest = 0
        self.plain = True
        self._depth = 0
        self._in_string = False
        self._rest = b""

    def go_on(self, piece: bytes) -> None:
        piece = self._rest + piece
        backslashes = len(piece) - len(piece.rstrip(b"\\"))
        self._rest = piece[
            len(piece) - backslashes % 2 :
        ]  # half an escape: the other half comes next
        # Without escaped characters, a string is what lies between two quotes.
        parts = (
            piece[: len(piece) - backslashes % 2]
            .replace(b"\\\\", b"")
            .replace(b'\\"', b"")
            .split(b'"')
        )
        structure = b"".join(parts[self._in_string :: 2]).translate(None, _NO_STRUCTURE)
        self._in_string ^= len(parts) % 2 == 0
        brackets = structure.translate(None, b",")
        self.values += len(structure) - brackets.count(b"]") - brackets.count(b"}")
        if brackets:
            depths = list(accumulate(map(_STEPS.__getitem__, brackets), initial=self._depth))
            self._depth, self.deepest = depths[-1], max(self.deepest, *depths)


def _is_plain(piece: bytes) -> bool:
    return _ZERO not in piece and _LONG_NUMBER not in piece.translate(_DIGITS_ALIKE)
