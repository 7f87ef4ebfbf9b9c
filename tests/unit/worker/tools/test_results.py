"""What a tool returned, as JSON of bounded size."""

import datetime as dt
import json
import math
import time
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, field_serializer

from tokenwire.protocol.text import MAX_JSON_DEPTH, storable_json
from tokenwire.worker.tools.results import Unshowable, shown

LIMIT = 48 * 1024


class Level(IntEnum):
    LOW = 1


class Kind(StrEnum):
    A = "a"


class Model(BaseModel):
    on: dt.date
    secret: str = "x"

    @field_serializer("secret")
    def _hidden(self, secret: str) -> str:
        return "*" * len(secret)


@dataclass
class Data:
    model: Model
    numbers: set[int]


MODEL = Model(on=dt.date(2026, 1, 2))


@pytest.mark.parametrize(
    ("value", "json_value"),
    [
        (None, None),
        (True, True),
        ("é\n", "é\n"),
        (-0.5, -0.5),
        ((1, [2]), [1, [2]]),
        ({2: "a", None: "b", True: 1, 0.5: 2}, {"2": "a", "null": "b", "true": 1, "0.5": 2}),
        ({"x": 1, Kind.A: 2}, {"x": 1, "a": 2}),
        ({dt.date(2026, 1, 2): 1}, {"2026-01-02": 1}),
        (Level.LOW, 1),
        (Kind.A, "a"),
        (MODEL, {"on": "2026-01-02", "secret": "*"}),
        (Data(MODEL, {3}), {"model": {"on": "2026-01-02", "secret": "*"}, "numbers": [3]}),
        ([math.nan, math.inf, -math.inf], ["NaN", "Infinity", "-Infinity"]),
        ({math.nan: 1}, {"NaN": 1}),
        (2**70, str(2**70)),
        ("\ud800\x00", "��"),
        ({"\x00": 1}, {"�": 1}),
        ("\ud83d\ude00", "😀"),
    ],
)  # fmt: skip
def test_values(value: Any, json_value: Any) -> None:
    """Of Python, pydantic and dataclasses; nothing that a database refuses."""
    assert shown(value, LIMIT) == json_value
    assert type(shown(value, LIMIT)) is type(json_value)


def _cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


class Opaque:
    """No JSON."""


@pytest.mark.parametrize(
    "value",
    [b"x", [bytearray(b"x")], memoryview(b"x"), iter([1]), Opaque(), {"a": Opaque()}, {(1, 2): 1},
     {b"x": 1}, _cycle(), object],
)  # fmt: skip
def test_what_has_no_json(value: Any) -> None:
    """An iterator need not end."""
    with pytest.raises(Unshowable):
        shown(value, LIMIT)


def test_depth() -> None:
    value: Any = 1
    for _ in range(MAX_JSON_DEPTH):
        value = [value]
    assert shown(value, LIMIT) == value
    with pytest.raises(Unshowable, match="nested too deeply"):
        shown([value], LIMIT)


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


@pytest.mark.parametrize("letter", ["a", "é", "😀", '"', "\n", "\x01", "\x00"])
def test_a_text_that_is_too_long_is_cut(letter: str) -> None:
    """With its escapes, it fits and nearly fills the limit."""
    found = shown(letter * LIMIT, LIMIT)
    assert found.keys() == {"truncated", "text"}
    assert found["truncated"] is True
    assert set(found["text"]) == {"�" if letter == "\x00" else letter}
    assert LIMIT - 8 < _size(found) <= LIMIT


def test_the_limit_is_exact() -> None:
    assert shown("a" * (LIMIT - 2), LIMIT) == "a" * (LIMIT - 2)
    assert shown("a" * (LIMIT - 1), LIMIT)["truncated"] is True
    assert shown(["é" * 30], 64) == ["é" * 30]
    assert shown(["é" * 31], 64)["truncated"] is True


def test_of_a_large_value_the_beginning_of_its_json_is_left() -> None:
    found = shown({"rows": [{"n": n} for n in range(100_000)]}, LIMIT)
    assert found["text"].startswith('{"rows":[{"n":0},{"n":1},')
    assert LIMIT - 8 < _size(found) <= LIMIT


@pytest.mark.parametrize(
    "value",
    ["\x00" * 50_000_000, ["x" * 50_000_000], [0] * 10_000_000],
    ids=["text", "text in a list", "list"],
)
def test_a_huge_value_costs_little(value: Any) -> None:
    """Otherwise it would hold Python's lock, and with it the loop of the attempts."""
    began = time.thread_time()
    assert shown(value, LIMIT)["truncated"] is True
    assert time.thread_time() - began < 0.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


@given(JSON, st.integers(64, 400))
def test_any_json_is_shown_whole_or_cut(value: Any, limit: int) -> None:
    found, whole = shown(value, limit), storable_json(value)
    assert _size(found) <= limit
    assert found == whole or _size(whole) > limit
