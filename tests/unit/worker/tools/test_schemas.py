"""Schemas of HTTP tools: which are refused, what fits, what the model reads, and what a check may
cost.
"""

import time
from typing import Any

import pytest

from tokenwire.worker.schemas import BadSchema, TooDear
from tokenwire.worker.tools.arguments import BadArguments
from tokenwire.worker.tools.schemas import SchemaReader

WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 1},
        "unit": {"enum": ["c", "k"]},
        "near": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["city"],
    "additionalProperties": False,
}
TREE = {
    "type": "object",
    "properties": {"value": {"type": "integer"}, "left": {"$ref": "#"}, "right": {"$ref": "#"}},
}


def obj(**keywords: Any) -> dict[str, Any]:
    return {"type": "object", **keywords}


def test_what_fits_reaches_the_function_as_it_is() -> None:
    reader = SchemaReader(WEATHER)
    assert reader.schema is WEATHER
    assert reader.read('{"city": "Oslo", "days": 2}') == {"arguments": {"city": "Oslo", "days": 2}}
    assert SchemaReader(obj()).read("") == {"arguments": {}}
    deep = '{"left":' * 30 + '{"value": 1}' + "}" * 30
    assert SchemaReader(TREE).read(deep)["arguments"]["left"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "The arguments are no JSON object, or hold a name twice."),
        ("{", "The arguments are no JSON object, or hold a name twice."),
        ("[" * 9999, "The arguments are no JSON object, or hold a name twice."),
        ('{"city": "%s"}' % ("x" * 64 * 1024), "The arguments have more than 65536 bytes."),
        ("{}", "The arguments do not fit. city: is missing"),
        (
            '{"city": 1, "days": "5"}',
            "The arguments do not fit. city: must be a string; days: must be an integer",
        ),
        (
            '{"city": "a", "town": 1, "x": 2}',
            "The arguments do not fit. town: is not known; x: is not known",
        ),
        (
            '{"days": 0, "city": "a", "near": ["a"]}',
            (
                "The arguments do not fit. "
                "days: is less than the minimum of 1; near.0: must be an integer"
            ),
        ),
        (
            '{"city": "a", "unit": "f"}',
            'The arguments do not fit. unit: is not one of "c" or "k"',
        ),
    ],
)
def test_the_model_reads_what_is_wrong(text: str, reason: str) -> None:
    """In the form that the arguments of functions have."""
    with pytest.raises(BadArguments) as refused:
        SchemaReader(WEATHER).read(text)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({}, "#/type: must be object"),
        ({"type": "string"}, "#/type: must be object"),
        (obj(properties={"a": {"type": "objekt"}}), "#/properties/a/type: is not valid"),
        (obj(properties={"a": {"$ref": "http://127.0.0.1:9/x"}}), "#: "),
        (obj(properties={"a": {"$ref": "file:///etc/passwd"}}), "#: "),
        (obj(**{"$ref": "#"}), "leads back to itself"),
        (obj(title="x" * 70_000), "65536 are allowed"),
    ],
)
def test_schemas_that_are_refused(schema: Any, reason: str) -> None:
    """When the process starts, in one line."""
    with pytest.raises(BadSchema) as refused:
        SchemaReader(schema)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_of_properties_are_no_keywords() -> None:
    schema = obj(properties={"$ref": {"type": "string"}, "pattern": {"enum": [{"$ref": 1}]}})
    assert SchemaReader(schema).read('{"$ref": "x"}') == {"arguments": {"$ref": "x"}}


def test_a_check_that_takes_too_long_is_ended() -> None:
    """Two branches that lead back double the work with every level."""
    branches = [{"$ref": "#"}, {"$ref": "#"}]
    reader = SchemaReader(obj(properties={"a": {"anyOf": branches}}))
    began = time.monotonic()
    with pytest.raises(TooDear):
        reader.read('{"a":' * 40 + "1" + "}" * 40, 1)
    assert time.monotonic() - began < 10
