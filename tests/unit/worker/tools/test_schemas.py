"""Schemas of HTTP tools: which are refused, what fits, what the model reads, and what a check may
cost.
"""

import time
from typing import Any

import pytest

from tokenwire.worker.tools import schemas
from tokenwire.worker.tools.arguments import BadArguments
from tokenwire.worker.tools.schemas import NOT_CHECKED, BadSchema, SchemaReader

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
        ("[]", "The arguments are no JSON object."),
        ("{", "The arguments are no JSON object."),
        ("[" * 9999, "The arguments are no JSON object."),
        ('{"city": "%s"}' % ("x" * 64 * 1024), "The arguments have more than 65536 bytes."),
        ("{}", "The arguments do not fit. city: is missing"),
        (
            '{"city": 1, "days": "5"}',
            "The arguments do not fit. city: must be a string; days: must be an integer",
        ),
        (
            '{"city": "a", "town": 1, "x": 2}',
            "The arguments do not fit. town: is not a parameter; x: is not a parameter",
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


def _nested(levels: int) -> Any:
    found: Any = {"type": "string"}
    for _ in range(levels):
        found = {"not": found}
    return found


def _cycle() -> Any:
    found: dict[str, Any] = {"type": "object"}
    found["properties"] = {"a": found}
    return found


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({}, "must have the type object"),
        ({"type": "string"}, "must have the type object"),
        (obj(properties={"a": {"type": "objekt"}}), "properties.a.type: is not valid"),
        (obj(properties=[]), 'properties: is not of type "object"'),
        (obj(properties={"a": {"$ref": "http://127.0.0.1:9/x"}}), "is no place in the schema"),
        (obj(properties={"a": {"$ref": "file:///etc/passwd"}}), "is no place in the schema"),
        (obj(properties={"a": {"$ref": "#/$defs/b"}}), "there is no #/$defs/b"),
        (obj(**{"$ref": "#"}), "recurses without end"),
        (obj(allOf=[{"anyOf": [{"$ref": "#"}]}]), "recurses without end"),
        (
            obj(
                properties={"a": {"$ref": "#/$defs/a"}},
                **{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"not": {"$ref": "#/$defs/a"}}}},
            ),
            "recurses without end",
        ),
        (obj(properties={"a": {"$dynamicRef": "#b"}}), "$dynamicRef is not supported"),
        (obj(properties={"a": {"$id": "http://x/y"}}), "$id is supported at the top only"),
        (obj(**{"$schema": "http://example.com/own"}), "Unknown meta-schema"),
        (obj(properties={"a": {"pattern": "("}}), 'is not a "regex"'),
        (obj(properties={"a": {"pattern": "(?=a)b"}}), 'is not a "regex"'),
        (obj(properties={"a": {"pattern": r"(a{1,300}){1,300}$"}}), 'is not a "regex"'),
        (obj(properties={"a": _nested(99)}), "nests deeper than 64 levels"),
        (_cycle(), "is no JSON, or nests too deeply"),
        (obj(title={1, 2}), "is no JSON"),
        (obj(title="x" * 70_000), "has more than 65536 bytes"),
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


def test_a_pattern_takes_linear_time() -> None:
    """Python's own engine would take years."""
    reader = SchemaReader(obj(properties={"a": {"pattern": "^(a+)+$"}}))
    assert reader.read('{"a": "%s"}' % ("a" * 60_000))
    with pytest.raises(BadArguments, match='a: does not match "'):
        reader.read('{"a": "%s!"}' % ("a" * 60_000))


def test_a_check_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two branches that lead back double the work with every level."""
    monkeypatch.setattr(schemas, "CHECK_SECONDS", 1.0)
    branches = [{"$ref": "#"}, {"$ref": "#"}]
    reader = SchemaReader(obj(properties={"a": {"anyOf": branches}}))
    began = time.monotonic()
    with pytest.raises(BadArguments) as refused:
        reader.read('{"a":' * 40 + "1" + "}" * 40)
    assert str(refused.value) == NOT_CHECKED
    assert time.monotonic() - began < 4


def test_valid_arguments_of_a_simple_schema_need_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError

    reader = SchemaReader(WEATHER)
    monkeypatch.setattr(schemas.subprocess, "run", refuse)
    assert reader.read('{"city": "Oslo"}')
    with pytest.raises(BadArguments, match=NOT_CHECKED):
        reader.read("{}")
    with pytest.raises(BadArguments, match=NOT_CHECKED):
        SchemaReader(TREE).read("{}")
