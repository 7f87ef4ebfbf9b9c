"""Pure: how much there is in a JSON text, found before it is parsed, at a fraction of what parsing costs.

What parsing costs is decided by the number of values, not by the number of bytes: 15 MiB of `[],[],...` are five million lists, and hold a
worker's loop, with all its other answers, for seconds. One image in base64 is as long and costs nothing.
"""

LARGE_BYTES = 256 * 1024
"""What is shorter is parsed as it is."""
MAX_VALUES = 100_000
_QUOTES = 4 * MAX_VALUES
"""A value has at most a name and a text: two strings."""
_NO_MARKS = bytes(set(range(256)) - set(b",[{"))
_ALIKE = bytes.maketrans(b"123456789", b"0" * 9)
_ENDLESS = b"0" * 1000
"""A number of so many digits is no number that anybody sends; some thousands of them take as long as the lists."""


def is_too_much(text: bytes) -> bool:
    """Whether a text holds more than MAX_VALUES values, or endless numbers. Of what is no JSON it says anything."""
    if len(text) <= LARGE_BYTES:
        return False
    if _marks(text) <= MAX_VALUES and _ENDLESS not in text.translate(_ALIKE):
        return False
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > _QUOTES:
        return True
    # Without escaped characters, what stands between two quotes is a string.
    outside = b"".join(bare.split(b'"')[::2])
    return _marks(outside) > MAX_VALUES or _ENDLESS in outside.translate(_ALIKE)


def _marks(text: bytes) -> int:
    """No fewer than its values, but for one."""
    return len(text.translate(None, _NO_MARKS))
