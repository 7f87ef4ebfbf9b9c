"""web.http.census: counts the values in a JSON text without parsing it, however it is sliced."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.web.http import census

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.just('\\"],[{')
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=30
)


def measured(value: Any) -> tuple[int, int]:
    """(items, members and containers; depth) of a parsed value. An empty list counts as one; a
    first item counts with its list.
    """
    if not isinstance(value, dict | list):
        return 0, 0
    inner = [measured(item) for item in (value.values() if isinstance(value, dict) else value)]
    return max(1, len(inner)) + sum(count for count, _ in inner), 1 + max(
        (depth for _, depth in inner), default=0
    )


@given(VALUES, st.booleans(), st.integers(1, 40))
def test_counts_are_exact(value: Any, ascii_only: bool, size: int) -> None:
    """Wherever a slice ends: in a string, in an escape, before a bracket."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(census, "SLICE_BYTES", size)
        found = census.take(json.dumps(value, ensure_ascii=ascii_only).encode())
    assert (found.values, found.depth) == measured(value)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ('"\\u0000"', False),
        ('"\\u00001"', False),
        ("1234567890123456789", False),
        ("123456789012345678", True),
        ('"\\ud83d\\ude00 \\u0001"', True),
    ],
)
@pytest.mark.parametrize("before", range(20))
def test_plain_texts_are_recognised(
    monkeypatch: pytest.MonkeyPatch, text: str, plain: bool, before: int
) -> None:
    """Also across the border of two slices."""
    monkeypatch.setattr(census, "SLICE_BYTES", 20)
    assert census.take(b" " * before + text.encode()).plain is plain


def test_it_stops_at_the_limit() -> None:
    """Nothing is counted after a text is refused."""
    with pytest.raises(census.TooMany):
        census.take(b"[" + b"0," * 10**6, 1000)
    assert census.take(b"[" + b"0," * 999 + b"0]", 1000).values == 1000


@pytest.mark.parametrize(
    "text", [b"]" * 100, b'"' * 101, b"\\" * 101, b'\\"' * 101, b"{" * 101, b"\xff" * 101, b""]
)
def test_invalid_json_does_no_harm(text: bytes) -> None:
    """The parser finds it later."""
    census.take(text)
