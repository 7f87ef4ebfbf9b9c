"""Instances of JSON schemas: valid by the judgement of another implementation."""

import enum
from typing import Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from tokenwire.providers.instances import NoInstance, instance


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Leaf(BaseModel):
    name: str
    size: float = Field(gt=0, lt=1)
    next: "Leaf | None"


class Order(BaseModel):
    kind: Literal["order"]
    colour: Colour
    count: int = Field(ge=3, le=5)
    notes: list[str] = Field(min_length=2)
    leaf: Leaf
    either: int | str
    maybe: bool | None
    pair: tuple[int, str]
    extra: dict[str, int]


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "children"],
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS: list[Any] = [
    {},
    {"type": "object"},
    {"type": "object", "properties": {"city": {"type": "string"}}},
    {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b", "c"]},
    {"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer"}},
    {"type": "string", "minLength": 9},
    {"type": "string", "maxLength": 2},
    {"type": "string", "pattern": "^[A-Z]{3}$"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "email"},
    {"type": "integer", "minimum": 7},
    {"type": "integer", "exclusiveMinimum": 7, "maximum": 8},
    {"type": "integer", "maximum": -3},
    {"type": "integer", "minimum": 5, "multipleOf": 4},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.01},
    {"type": "number", "minimum": 0.5, "maximum": 0.5},
    {"type": "array", "items": {"type": "integer"}, "minItems": 4, "uniqueItems": True},
    {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "uniqueItems": True},
    {"type": "array", "items": {"type": "string"}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "maxItems": 0},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "boolean"}], "items": False},
    {"type": ["null", "integer"]},
    {"const": {"a": 1}},
    {"enum": [None, 5]},
    {"anyOf": [{"type": "null"}, {"type": "object", "required": ["x"]}]},
    {"oneOf": [False, {"type": "integer", "minimum": 2}]},
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "null"}}, "required": ["b"]},
        ]
    },
    TREE,
    Order.model_json_schema(),
]


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("words", [[], ["Oslo"], ["Oslo", "Rome"]])
def test_instances_are_valid(schema: Any, words: list[str]) -> None:
    """And the same each time."""
    made = instance(schema, words)
    jsonschema.validate(made, schema, jsonschema.Draft202012Validator)
    assert instance(schema, words) == made


def test_texts_are_words() -> None:
    """In their order, where they fit."""
    schema = {"type": "object", "properties": {"from": {"type": "string"}, "to": {}, "n": True}}
    assert instance(schema, ["Oslo", "Rome"]) == {"from": "Oslo", "to": "Rome", "n": "Oslo"}


BRANCHING = {
    "$ref": "#/$defs/0",
    "$defs": {
        **{str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 10} for n in range(8)},
        "8": {"type": "string"},
    },
}
"""It does not recurse, and means 10^8 schemas."""


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"$ref": "#"},
        {"$ref": "https://example.org/schema"},
        {"$ref": "#/$defs/missing"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 3},
        {"type": "string", "pattern": "^never(?=x)y$"},
        {"type": "string", "pattern": "("},
        {"type": "string", "pattern": "(x+x+)+y$", "minLength": 38},
        {"type": "string", "pattern": "x*" * 60 + "y$", "minLength": 38},
        {"type": "string", "pattern": "^" + "(xx|x)" * 32 + "y$", "minLength": 38},
        BRANCHING,
        {"type": "number", "exclusiveMinimum": 1e300},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"type": "integer", "multipleOf": 0.3, "minimum": 0.1, "maximum": 0.2},
        {"type": 5},
        {"properties": 5},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"anyOf": 5},
    ],
)
@pytest.mark.timeout(20)
def test_what_has_no_instance(schema: Any) -> None:
    """It recurses without end, contradicts itself, or is no schema: one error, and soon."""
    try:
        made = instance(schema, [])
    except NoInstance:
        return
    # What is no schema may be read as one without that keyword.
    assert schema in ({"type": 5}, {"properties": 5}), made
