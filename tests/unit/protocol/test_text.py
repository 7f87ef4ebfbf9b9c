"""protocol.text: UTF-16 lengths, cuts between characters, surrogates, U+0000 and values that JSON
cannot hold.
"""

import json
import math
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol.text import (
    MAX_JSON_DEPTH,
    Cleaner,
    checksum,
    cut,
    fits,
    input_object,
    pieces,
    storable,
    storable_json,
    utf16_length,
)

any_text = st.text(st.characters(codec=None, categories=None))
clean_text = st.text(st.characters(codec="utf-8"))


@given(any_text)
def test_length_counts_utf16_code_units(text: str) -> None:
    """As JavaScript's `length`: two units for characters beyond the basic plane."""
    assert utf16_length(text) == sum(2 if ord(character) > 0xFFFF else 1 for character in text)


@given(clean_text, clean_text)
def test_cut_is_the_inverse_of_joining(left: str, right: str) -> None:
    """The first `utf16_length(left)` units of the whole are the left part."""
    assert cut(left + right, utf16_length(left)) == left


@pytest.mark.parametrize(
    ("text", "units"), [("abc", 4), ("é", 2), ("a😀b", 2), ("😀", 1), ("😀", 3)]
)
def test_cut_refuses_to_split_or_to_pass_the_end(text: str, units: int) -> None:
    """Half a surrogate pair and an offset beyond the end are errors."""
    with pytest.raises(ValueError):
        cut(text, units)


@given(clean_text, st.integers(4, 12))
def test_pieces_are_bounded_and_whole(text: str, max_bytes: int) -> None:
    """They join to the text; none is empty or too long."""
    parts = list(pieces(text, max_bytes))
    assert "".join(parts) == text
    assert all(0 < len(part.encode()) <= max_bytes for part in parts)


def test_pieces_are_as_long_as_may_be() -> None:
    """A piece is shorter only where a character would be split."""
    assert list(pieces("aé😀bcdef", 4)) == ["aé", "😀", "bcde", "f"]


@given(clean_text)
def test_checksum_is_zlibs_of_utf8(text: str) -> None:
    """Unsigned, as every client can compute it."""
    assert checksum(text) == zlib.crc32(text.encode("utf-8")) & 0xFFFFFFFF


@pytest.mark.parametrize(
    ("given_pieces", "logged"),
    [
        (["plain"], ["plain", ""]),
        (["nul\0!"], ["nul\ufffd!", ""]),
        (["é\0"], ["é\ufffd", ""]),
        (["\ud83d", "\ude00"], ["", "😀", ""]),
        (["a\ud83d", "\ude00b"], ["a", "😀b", ""]),
        (["\ud83d\ude00"], ["😀", ""]),
        (["\ude00"], ["\ufffd", ""]),
        (["\ud83d", "x"], ["", "\ufffdx", ""]),
        (["\ud83d"], ["", "\ufffd"]),
        (["\ud83d", "\ud83d", "\ude00"], ["", "\ufffd", "😀", ""]),
        (["\ud83d", "", "\ude00"], ["", "", "😀", ""]),
        (["\ude00\ud83d"], ["\ufffd", "\ufffd"]),
    ],
)
def test_cleaner_holds_half_pairs_and_replaces_what_stays_alone(
    given_pieces: list[str], logged: list[str]
) -> None:
    """One result per piece, then that of `flush`."""
    cleaner = Cleaner()
    assert [*map(cleaner.push, given_pieces), cleaner.flush()] == logged


@given(clean_text.filter(lambda text: "\0" not in text), st.data())
def test_cleaner_restores_text_cut_between_code_units(text: str, data: st.DataObject) -> None:
    """However the code units are split, the logged pieces join to the text and each one is
    valid.
    """
    raw = text.encode("utf-16-le")
    units = [raw[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(raw), 2)]
    cleaner = Cleaner()
    logged: list[str] = []
    while units:
        size = data.draw(st.integers(1, len(units)))
        logged.append(cleaner.push("".join(units[:size])))
        units = units[size:]
    logged.append(cleaner.flush())
    assert "".join(logged) == text
    for piece in logged:
        piece.encode()


@given(st.lists(any_text))
def test_cleaner_output_is_always_fit_for_the_log(given_pieces: list[str]) -> None:
    """No lone surrogate, no U+0000, and the same length in code units as the input."""
    cleaner = Cleaner()
    logged = "".join([*map(cleaner.push, given_pieces), cleaner.flush()])
    logged.encode()
    assert "\0" not in logged
    assert utf16_length(logged) == sum(map(utf16_length, given_pieces))


@given(any_text)
def test_storable_text_is_fit_for_every_store(text: str) -> None:
    """The same result as the cleaner gives for a text in pieces; valid text stays as it is."""
    cleaner = Cleaner()
    clean = storable(text)
    assert clean == cleaner.push(text) + cleaner.flush()
    assert storable(clean) == clean


@pytest.mark.parametrize(
    ("text", "whether"),
    [
        ("", True),
        ("a" * 255, True),
        ("a" * 256, False),
        ("😀" * 255, True),
        ("a\0", False),
        ("\ud83d", False),
    ],
)
def test_a_column_takes_what_fits(text: str, whether: bool) -> None:
    """Lengths count characters, as PostgreSQL does."""
    assert fits(text, 255) is whether


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (math.nan, "NaN"),
        (-math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (0.5, 0.5),
        (True, True),
        (None, None),
        (2**64 - 1, 2**64 - 1),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        ({"a\0": ["\ud83d", {"b": math.nan}]}, {"a\ufffd": ["\ufffd", {"b": "NaN"}]}),
        (["\ud83d\ude00"], ["😀"]),
    ],
)
def test_storable_json_holds_only_what_json_can_say(value: object, stored: object) -> None:
    """At any depth; valid values keep their type."""
    found = storable_json(value)
    assert (found, type(found)) == (stored, type(stored))


def _nested(depth: int) -> object:
    value: object = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_the_depth_of_json_is_bounded() -> None:
    """Values that are nested too deeply are refused before the stack ends."""
    assert storable_json(_nested(MAX_JSON_DEPTH)) == _nested(MAX_JSON_DEPTH)
    for depth in (MAX_JSON_DEPTH + 1, 100_000):
        with pytest.raises(ValueError, match="deep"):
            storable_json(_nested(depth))


def test_what_is_no_json_is_refused() -> None:
    """Rather than stored as something else."""
    with pytest.raises(ValueError, match="bytes"):
        storable_json({"a": [b"bytes"]})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_storable_json_is_taken_by_strict_encoders(value: object) -> None:
    """By the log's encoder and PostgreSQL's json type; a second pass changes nothing."""
    found = storable_json(value)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    msgspec.json.encode(found).decode()
    assert "\\u0000" not in json.dumps(found)
    assert storable_json(found) == found


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1]}', {"a": [1]}),
        ("", {}),
        (" \n", {}),
        (r'{"a\ud800": "\u0000\ud83d\ude00\udc00"}', {"a\ufffd": "\ufffd😀\ufffd"}),
        ('{"a": ' + "9" * 40 + "}", {"a": "9" * 40}),
        ("[1]", None),
        ('"a"', None),
        ('{"a":', None),
        ('{"a": NaN}', None),
        ('{"a": -1e999}', None),
        ('{"a":' * 65 + "1" + "}" * 65, None),
        ('{"a":' * 100_000, None),
        ('{"a": 1, "b": 2, "a": 1}', None),
        ('{"a": [{"b": 1, "b": 2}]}', None),
        (r'{"a": 1, "\u0061": 2}', None),
        (r'{"\ud800": 1, "\udc00": 2}', None),
        ('{"a": {"a": 1}, "b": {"a": 1}}', {"a": {"a": 1}, "b": {"a": 1}}),
    ],
)
def test_an_input_is_a_storable_object(text: str, value: dict[str, Any] | None) -> None:
    """A model may escape what is no character. None: no tool could be called with it."""
    assert input_object(text) == value
