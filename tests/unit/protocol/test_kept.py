"""protocol/kept.py: a kept value loses nothing, and no text is stored twice; what is lost costs
its turn.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenwire.protocol import kept
from tokenwire.protocol.fold import Part
from tokenwire.protocol.kept import (
    LOST,
    SHORTEST,
    FoldIn,
    SearchBudget,
    ended,
    fold_out,
    is_lost,
    turns,
)
from tokenwire.protocol.text import MAX_JSON_DEPTH, storable_json, utf16_length


def fold_in(value: Any, text: str) -> Any:
    return FoldIn(text).value(value)


TEXT = "".join(f"Thought {n}: 👋 é and so on. " for n in range(20))
_names = st.sampled_from(["$text", "$$text", "$$$text", "$json", "$$json", "text", "$", "\x00"])
_slices = st.tuples(st.integers(0, 300), st.integers(0, 200)).map(lambda at: TEXT[at[0] :][: at[1]])
_numbers = st.lists(st.integers(0, 50), max_size=2)
_halves = st.text(st.sampled_from(["\u6161", "a", "👋", "\u4b61"]), min_size=30, max_size=50)
_floats = st.floats(allow_nan=False, allow_infinity=False)
_broken = st.sampled_from(["\x00", 2**64, -(2**70)])
_leaves = st.one_of(
    *(st.none(), st.booleans(), st.integers(), _floats, st.text()),
    *(_slices, _numbers, _halves, _broken),
)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=20,
)


@given(_values, st.sampled_from([TEXT, TEXT * 2, "", "x" + "\u6161👋" * 50]), st.text())
def test_folding_out_and_in_are_inverses(value: Any, text: str, more: str) -> None:
    """Any JSON value over any text, even a text that has grown since, and through a database."""
    out = fold_out(value, text)
    assert storable_json(out) == out
    assert fold_in(json.loads(json.dumps(out)), text + more) == value


def test_a_part_s_text_is_not_stored_again() -> None:
    """In a block of a provider, the thinking is in the part and only the signature is stored."""
    block = {"type": "thinking", "thinking": TEXT, "signature": "EqQB" * 100}
    out = fold_out(block, "é👋" + TEXT)
    assert out == block | {"thinking": {"$text": [3, len(TEXT) + 20]}}
    assert fold_in(out, "é👋" + TEXT) == block


@pytest.mark.parametrize(("length", "stays"), [(SHORTEST - 1, True), (SHORTEST, False)])
def test_short_strings_stay(length: int, stays: bool) -> None:
    """A reference would be longer."""
    assert (fold_out("x" * length, "x" * 99) == "x" * length) is stays


def test_a_string_between_halves_of_units_is_no_slice() -> None:
    """The text's bytes contain it, but no character begins there."""
    text, string = "\u6100" + "\u6161" * SHORTEST, "\u6161" * SHORTEST
    assert fold_in(fold_out(string, text), text) == string


def test_searches_are_bounded() -> None:
    """Some thousand strings do not search megabytes each. The budget is that of all values."""
    text = "".join(strings := [f"{n:0{SHORTEST}}" for n in range(100)])
    budget = SearchBudget(SHORTEST * (5 + len(strings) // 4))
    first, later = (fold_out(strings[:99], text, budget) for _ in range(2))
    assert [isinstance(item, str) for item in first] == [False] * 4 + [True] * 95
    assert later == strings[:99]
    assert fold_in(first, text) == strings[:99]


def test_a_text_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all values that come behind it, even if nothing may be searched any more."""
    encoded, encode = list[str](), kept._encoded
    monkeypatch.setattr(kept, "_encoded", lambda text: (encoded.append(text), encode(text))[1])
    budget, text = SearchBudget(), "x" * 999
    for number in range(9):
        fold_out({"quote": f"{number}" * 50}, text, budget)
    assert encoded.count(text) == 1
    fold_out({"quote": "y" * 50}, other := "z" * 99, SearchBudget(0))
    assert other not in encoded


def test_the_end_of_a_text_is_found_without_a_search() -> None:
    """A value comes right behind its text, however long that is."""
    budget = SearchBudget(0)
    assert fold_out([TEXT, "z" * 99], f"👋{TEXT}", budget) == [
        {"$text": [2, utf16_length(TEXT)]},
        "z" * 99,
    ]


@pytest.mark.parametrize("reference", [[0, 6], [5, 1], [9, 3], [-1, 1]])
def test_a_too_short_text_is_an_error(reference: list[int]) -> None:
    """No kept value is better than one with other words."""
    with pytest.raises(ValueError, match="does not hold"):
        fold_in({"$text": reference}, "abc👋")


def test_a_value_that_looks_like_a_reference_stays_a_value() -> None:
    """The provider's own names survive."""
    for value in ({"$text": [0, 1]}, {"$text": "a", "b": 1}, {"$$text": [0, 1]}):
        assert fold_in(fold_out(value, "abc"), "abc") == value


def test_what_databases_refuse_is_escaped() -> None:
    """Only that: the rest of the value stays readable, and short."""
    value = {"a": "x\x00", "b": TEXT, "$json": "1", "c": {"\x00": [TEXT]}}
    out = fold_out(value, TEXT)
    assert out == {
        "a": {"$json": '"x\\u0000"'},
        "b": {"$text": [0, len(TEXT) + 20]},
        "$$json": "1",
        "c": {"$json": json.dumps({"\x00": [TEXT]})},
    }
    assert fold_in(out, TEXT) == value


def nested(depth: int, leaf: Any) -> Any:
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


@pytest.mark.parametrize("leaf", ["a", "\x00"])
def test_a_value_may_be_nested_so_deeply(leaf: str) -> None:
    """Beyond that, readers of the value could run out of stack."""
    value = nested(MAX_JSON_DEPTH, leaf)
    assert fold_in(fold_out(value, ""), "") == value
    with pytest.raises(ValueError, match="nested too deeply"):
        fold_out({"a": value}, "")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), {1}, {"\x00": float("inf")}])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    """It could not go back."""
    with pytest.raises(ValueError, match="JSON"):
        fold_out(value, "")


@pytest.mark.parametrize("value", ["\ud83d", {"a\udc4b": 1}, {"\x00": "\ud83d"}])
def test_half_a_character_is_refused(value: Any) -> None:
    """Providers refuse a request for it, and a replaced one is not what a signature attests."""
    with pytest.raises(ValueError, match="surrogates"):
        fold_out(value, "")
    assert fold_in(fold_out("\x00\ud83d\udc4b", ""), "") == "\x00👋"


# --- turns of the provider ----------------------------------------------------------------------

KEPT = {"dialect": "d", "kind": "k", "value": {}}


def part(kind: str = "provider", kept: Any = None, **fields: Any) -> Part:
    made = Part(kind, fields)
    made.kept = kept
    return made


END = part(kept=ended(part(kept=KEPT)))


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ([], [0]),
        ([part(kept=KEPT), part()], [2]),
        ([part(), END, part(), END], [2, 2, 0]),
        ([part(kept=ended(part(dropped=True))), part()], [1, 1]),
        ([part("tool_call"), part("step"), part()], [3]),
        ([part("tool_call", state="done"), part("step"), part("step"), part()], [2, 2]),
        ([part("tool_call", state="denied"), part("step"), part()], [2, 1]),
        ([part("tool_call", state="running", result=1), part("step"), part()], [3]),
    ],
)
def test_the_turns_of_an_answer(parts: list[Part], sizes: list[int]) -> None:
    """They end where another request began: noted, or behind results. A pause ends none."""
    found = turns(parts)
    assert [len(turn) for turn in found] == sizes
    assert [number for turn in found for number in turn] == list(range(len(parts)))


def test_what_is_lost() -> None:
    """It says so, whether or not its turn has ended."""
    lost = [part(kept=LOST), part(dropped=True), part(kept=ended(part(kept=LOST)))]
    assert all(map(is_lost, lost))
    assert is_lost(part(kept=ended(part())))
    assert not any(map(is_lost, [part(), part(kept=KEPT), END]))
    assert END.kept == {**KEPT, "ends": True}
