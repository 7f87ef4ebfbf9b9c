"""models.shapes: JSON of a wrong shape is dropped from a row; the rest stays as it is."""

from typing import Any

import pytest

from tokenwire.models import shapes

CALL = {"id": "c", "name": "f", "arguments": {"a": 1}, "status": "ok", "result": [1]}
ENTRY = {"at": 0, "dialect": "d", "kind": "k", "value": {"a": 1}}
USAGE = {"input_tokens": 1, "output_tokens": 2, "cached_tokens": 3, "estimated": False}
ERROR = {"code": "c", "error": "e", "retryable": True}
WHOLE: dict[shapes.Shape, Any] = {
    shapes.tool_calls: [CALL, CALL | {"arguments": "text"}],
    shapes.kept: [ENTRY],
    shapes.part_kept: {"dialect": "d", "kind": "k", "value": {"a": 1}},
    shapes.parts_kept: [{"part": 0, "dialect": "d", "value": "v"}],
    shapes.seams: [0, 5],
    shapes.usage: USAGE,
    shapes.reported: {"before": {"input_tokens": 1}, "now": {}},
    shapes.error: ERROR,
    shapes.json_object: {"a": 1},
    shapes.json_list: [1],
}


def deep(levels: int) -> Any:
    """Lists within lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


WHOLE[shapes.any_json] = deep(64)
DAMAGE = [
    5,
    "x",
    True,
    [],
    {},
    [5],
    [None],
    [[]],
    ["x"],
    [-1],
    [1.5],
    [True],
    {"x": 1},
    {"before": 5},
    {"input_tokens": "x"},
    {"code": 5},
]


@pytest.mark.parametrize("shape", WHOLE)
def test_what_has_its_shape_stays_as_it_is(shape: shapes.Shape) -> None:
    """To the last field."""
    assert shape(WHOLE[shape]) == WHOLE[shape]


@pytest.mark.parametrize("shape", WHOLE)
@pytest.mark.parametrize("value", DAMAGE, ids=repr)
def test_what_is_left_has_the_shape(shape: shapes.Shape, value: Any) -> None:
    """Either nothing is left, or a value that passes unchanged when it is read again."""
    found = shape(value)
    assert found is None or shape(found) == found


@pytest.mark.parametrize(
    ("shape", "value", "left"),
    [
        (shapes.tool_calls, [CALL, CALL | {"id": 5}, {}, 5], [CALL]),
        (shapes.kept, [ENTRY, ENTRY | {"at": -1}], None),
        (shapes.kept, [ENTRY | {"value": 5}], None),
        (shapes.part_kept, {"dialect": 5, "value": {}}, None),
        (shapes.parts_kept, [{"part": 0, "dialect": "d"}, {"part": -1, "dialect": "d"}], None),
        (shapes.seams, [1, "x", -1, True], [1]),
        (
            shapes.usage,
            USAGE | {"more": 1, "estimated": 5},
            {"input_tokens": 1, "output_tokens": 2, "cached_tokens": 3},
        ),
        (shapes.usage, {"input_tokens": 1}, None),
        (
            shapes.reported,
            {"now": {"input_tokens": True, "output_tokens": 1}},
            {"before": {}, "now": {"output_tokens": 1}},
        ),
        (shapes.error, ERROR | {"retryable": 5}, None),
        (shapes.any_json, deep(65), None),
    ],
)
def test_only_what_is_damaged_is_left_out(shape: shapes.Shape, value: Any, left: Any) -> None:
    """Kept entries are dropped together: a provider refuses half of them."""
    assert shape(value) == left


@pytest.mark.parametrize("text", ["no JSON", "{", "[" * 100_000, b"\xff"])
def test_what_is_no_json_is_nothing(text: str | bytes) -> None:
    """SQLite accepts any text."""
    assert shapes.loads(text) is None
