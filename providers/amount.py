"""Pure: the number of values in a JSON text, found before parsing at a fraction of its cost.

Parsing costs as much as there are values, not bytes: 15 MiB of `[],[],...` are five million lists,
and block a worker's loop for seconds. One image in base64 is as long and costs nothing.
"""


class TooMuch(Exception):
    """An answer holds more than a limit allows: no damage, so another request would not help."""


LARGE_BYTES = 256 * 1024
"""Shorter texts are parsed directly."""
MAX_VALUES = 100_000
_QUOTES = 4 * MAX_VALUES
"""A value has at most a name and a text: two strings."""
_NO_MARKS = bytes(set(range(256)) - set(b",[{"))
_ALIKE = bytes.maketrans(b"123456789", b"0" * 9)
_ENDLESS = b"0" * 1000
"""No honest number has so many digits. Some thousands of such numbers would cost too much."""


def is_too_much(text: bytes) -> bool:
    """Whether a text holds more than MAX_VALUES values, or endless numbers. Undefined for invalid
    JSON.
    """
    if len(text) <= LARGE_BYTES:
        return False
    if _marks(text) <= MAX_VALUES and _ENDLESS not in text.translate(_ALIKE):
        return False
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > _QUOTES:
        return True
    # Without escaped characters, a string is what lies between two quotes.
    outside = b"".join(bare.split(b'"')[::2])
    return _marks(outside) > MAX_VALUES or _ENDLESS in outside.translate(_ALIKE)


def _marks(text: bytes) -> int:
    """An upper bound of its values, minus one."""
    return len(text.translate(None, _NO_MARKS))
