"""The JSON that clients accept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.web.aisdk.values import MAX_DEPTH, Misuse, clean, dumps

keys = st.sampled_from(["__proto__", "constructor", "prototype", "a", "___proto__"]) | st.text(
    max_size=3
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def refused(value: Any) -> bool:
    """What the client's parser refuses."""
    if isinstance(value, list):
        return any(map(refused, value))
    if not isinstance(value, dict):
        return False
    constructor = value.get("constructor")
    return (
        "__proto__" in value
        or (isinstance(constructor, dict) and "prototype" in constructor)
        or any(map(refused, value.values()))
    )


@given(anything)
def test_the_client_accepts_everything_that_is_written(value: Any) -> None:
    """Neither keys nor numbers are refused, and no value is lost."""
    written = json.loads(dumps(clean(value)), parse_constant=lambda word: pytest.fail(word))
    assert not refused(written)
    assert not isinstance(value, dict) or len(written) == len(value)


@given(anything)
def test_harmless_values_stay(value: Any) -> None:
    """Cleaning is idempotent."""
    assert clean(clean(value)) == clean(value)


def test_depth_and_strange_values() -> None:
    """Too deep values become null; values outside of JSON are misuse; tuples are lists, keys are
    written like JSON's.
    """
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert dumps(clean(deep)).count(b"[") == MAX_DEPTH
    assert clean({1: (1, 2), None: 1, 1.5: 3, False: 0}) == {
        "1": [1, 2],
        "null": 1,
        "1.5": 3,
        "false": 0,
    }
    for strange in (object(), b"bytes", {(): 1}, {1, 2}):
        with pytest.raises(Misuse):
            clean(strange)


def test_half_a_pair_is_escaped() -> None:
    """JavaScript joins the halves of two deltas."""
    assert dumps({"delta": "\ud83d"}) == b'{"delta":"\\ud83d"}'
    assert dumps({"delta": "🦉"}) == '{"delta":"🦉"}'.encode()
