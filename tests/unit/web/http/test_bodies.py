"""web.http.bodies: the fast path to a value and the slow one agree; both refuse what is too deep or
too large.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol.text import MAX_JSON_DEPTH, storable_json
from tokenwire.web.http.bodies import MAX_REPLACED, decode
from tokenwire.web.problems import ApiProblem

TEXTS = st.text(st.characters(), max_size=20) | st.text("\ud800\udc00\x00a1", max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=20
)


@given(VALUES)
def test_both_paths_give_the_same(value: Any) -> None:
    """The same as a parser and a walk, whatever has to be repaired."""
    body = json.dumps(value)
    found, wanted = decode(body.encode()), storable_json(json.loads(body))
    assert found == wanted
    assert json.dumps(found) == json.dumps(wanted)


def test_names_may_have_to_be_unique() -> None:
    """Without the check, the last value counts, as with most parsers."""
    twice = b'[{"a": 1, "b": {"c": 2, "c": 3}}]'
    assert decode(twice) == [{"a": 1, "b": {"c": 3}}]
    assert decode(b'[{"a": {"a": 1}}, {"a": 1}]', once=True) == [{"a": {"a": 1}}, {"a": 1}]
    with pytest.raises(ApiProblem) as raised:
        decode(twice, once=True)
    assert raised.value.detail == "The body has an object in which a name occurs twice."


@pytest.mark.parametrize("inner", ["0", '"\\u0000"'])
def test_nesting_is_limited(inner: str) -> None:
    """No walk goes deeper, and no database has to; also on the fast path."""

    def nested(depth: int) -> bytes:
        return ("[" * depth + inner + "]" * depth).encode()

    decode(nested(MAX_JSON_DEPTH))
    with pytest.raises(ApiProblem) as raised:
        decode(nested(MAX_JSON_DEPTH + 1))
    assert raised.value.code == "malformed_json"
    assert raised.value.detail == f"The body is nested more than {MAX_JSON_DEPTH} levels deep."


@pytest.mark.parametrize("unit", ["\\ud800", "\\udc00", "\\u0000"])
def test_repairs_are_limited(unit: str) -> None:
    """A thousand invalid characters become U+FFFD, in all texts and names together. One more is
    refused as invalid JSON.
    """
    half = unit * (MAX_REPLACED // 2)
    assert decode(f'{{"{half}": ["{half}"]}}'.encode()) == {
        "\ufffd" * (MAX_REPLACED // 2): ["\ufffd" * (MAX_REPLACED // 2)]
    }
    with pytest.raises(ApiProblem, match="more than 1000") as raised:
        decode(f'{{"{half}": ["{half}", "{unit}"]}}'.encode())
    assert raised.value.code == "malformed_json"


def test_escaped_characters_are_no_damage() -> None:
    """However many there are, beside something that has to be repaired."""
    assert decode(b'["' + b"\\ud83d\\ude00\\u00e9" * 10_000 + b'\\ud800"]') == [
        "😀é" * 10_000 + "\ufffd"
    ]


def test_the_number_of_values_is_limited() -> None:
    """The limit is exact."""
    assert decode(b"[0,0,0]", 3) == [0, 0, 0]
    with pytest.raises(ApiProblem) as raised:
        decode(b"[0,0,0,0]", 3)
    assert raised.value.code == "body_too_large"
