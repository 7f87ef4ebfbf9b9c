"""Arguments of a tool: what fits, and what the model reads about what does not."""

import datetime as dt
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field

from tests.unit.worker.tools.test_definition import Place, made
from tokenwire.worker.tools.arguments import BadArguments


class Unit(Enum):
    CELSIUS = "c"
    KELVIN = "k"


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


def _bug(value: int) -> int:
    raise TypeError("a secret of the application")


class Deep(BaseModel):
    place: Place | None = None
    more: "list[Deep]" = []


def takes(
    text: str = "",
    count: int = 0,
    size: float = 0.0,
    flag: bool = False,
    on: dt.date = dt.date(2020, 1, 1),
    unit: Unit = Unit.CELSIUS,
    pair: tuple[int, int] = (0, 0),
    either: int | str = 0,
    mode: Literal["a", "b"] = "a",
    even: Annotated[int, AfterValidator(_even)] = 0,
    small: Annotated[int, Field(lt=10)] = 0,
    short: Annotated[str, Field(max_length=3)] = "",
    deep: Deep | None = None,
    by_name: dict[str, int] | None = None,
    nothing: None = None,
) -> dict[str, Any]:
    """Take anything."""
    return locals()


READER = made(takes).reader
NAMES = list(READER.schema["properties"])


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ('{"text": "é"}', "text", "é"),
        ('{"text": "\\ud800\\u0000"}', "text", "��"),
        ('{"size": 1}', "size", 1.0),
        ('{"on": "2026-01-02"}', "on", dt.date(2026, 1, 2)),
        ('{"unit": "k"}', "unit", Unit.KELVIN),
        ('{"pair": [1, 2]}', "pair", (1, 2)),
        ('{"either": "x"}', "either", "x"),
        ('{"deep": {"place": {"city": "A"}}}', "deep", Deep(place=Place(city="A"))),
        ("", "count", 0),
        ("  {} ", "count", 0),
    ],
)
def test_values(text: str, name: str, value: object) -> None:
    """In Python's types; what is left out has its default."""
    assert READER.read(text)[name] == value


OBJECT = "The arguments are no JSON object, or hold a name twice."
FIT = "The arguments do not fit. "


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("[1]", OBJECT),
        ("null", OBJECT),
        ('{"count": 1', OBJECT),
        ('{"size": NaN}', OBJECT),
        ('{"size": 1e999}', OBJECT),
        ("[" * 100_000, OBJECT),
        ('{"deep": ' + "[" * 70 + "]" * 70 + "}", OBJECT),
        ('{"count": "5"}', FIT + "count: must be an integer"),
        ('{"count": 1.5}', FIT + "count: must be an integer"),
        ('{"count": true}', FIT + "count: must be an integer"),
        ('{"flag": "yes"}', FIT + "flag: must be true or false"),
        ('{"text": 5}', FIT + "text: must be a string"),
        ('{"size": "1"}', FIT + "size: must be a number"),
        ('{"colour": 1}', FIT + "colour: is not a parameter"),
        ('{"either": []}', FIT + "either: must be an integer, or must be a string"),
        ('{"mode": "c"}', FIT + "mode: must be 'a' or 'b'"),
        ('{"unit": "x"}', FIT + "unit: must be 'c' or 'k'"),
        ('{"even": 3}', FIT + "even: must be even"),
        ('{"small": 10}', FIT + "small: must be less than 10"),
        ('{"short": "abcd"}', FIT + "short: string must have at most 3 characters"),
        ('{"pair": [1]}', FIT + "pair.1: is missing"),
        ('{"deep": {"more": [{"place": {}}]}}', FIT + "deep.more.0.place.city: is missing"),
        ('{"deep": 1}', FIT + "deep: must be an object"),
        ('{"by_name": []}', FIT + "by_name: must be an object"),
        ('{"by_name": {"x": "y"}}', FIT + "by_name.x: must be an integer"),
        ('{"nothing": 1}', FIT + "nothing: must be null"),
        ('{"count": "a", "text": 1}', FIT + "text: must be a string; count: must be an integer"),
    ],
)
def test_refusals(text: str, refusal: str) -> None:
    """They name the field, in the words of JSON."""
    with pytest.raises(BadArguments) as refused:
        READER.read(text)
    assert str(refused.value) == refusal


def test_what_is_missing_is_named() -> None:
    def pay(amount: int, to: str) -> None:
        """Pay."""

    with pytest.raises(BadArguments, match=r"amount: is missing; to: is missing$"):
        made(pay).reader.read("")


def test_a_refusal_is_short() -> None:
    """However many mistakes there are, and however long their names."""
    with pytest.raises(BadArguments) as refused:
        READER.read("{" + ", ".join(f'"{"x" * 5000}{n}": 1' for n in range(100)) + "}")
    text = str(refused.value)
    assert text.endswith("; and 95 more")
    assert len(text) < 1200


def test_a_bug_of_a_validator_is_not_shown() -> None:
    def buggy(value: Annotated[int, AfterValidator(_bug)]) -> None:
        """Buggy."""

    with pytest.raises(BadArguments, match=r"^The arguments could not be checked\.$"):
        made(buggy).reader.read('{"value": 1}')


@given(st.text() | st.from_regex(r"\{(\"(text|count|deep|pair)\": ?[\[\]{}\d\"ntfe,.\\]*,?)*\}"))
def test_any_text_is_values_or_a_refusal(text: str) -> None:
    try:
        found = list(READER.read(text))
    except BadArguments as refused:
        found = None if 0 < len(str(refused)) < 1200 else []
    assert found in (None, NAMES)
