"""providers/schema_forms.py: the parts of JSON Schema that providers take."""

from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel, Field

from tokenwire.providers.instances import NoInstance, instance
from tokenwire.providers.schema_forms import closed_form, strict_form, strictness

TEXT: dict[str, Any] = {"type": "string"}
OPEN: dict[str, Any] = {"type": "object", "properties": {"a": TEXT}, "required": ["a"]}
CLOSED = OPEN | {"additionalProperties": False}
OPTIONAL: dict[str, Any] = {"type": "object", "properties": {"a": TEXT, "b": TEXT}}
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {"inner": {"anyOf": [{"$ref": "#/$defs/tree"}, {"type": "null"}]}},
    "required": ["inner"],
}


def inside(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"x": schema}, "required": ["x"], **more}


@pytest.mark.parametrize(
    ("schema", "form"),
    [
        (OPEN, CLOSED),
        (CLOSED, CLOSED),
        (inside(OPEN), inside(CLOSED, additionalProperties=False)),
        (
            inside({"type": "array", "items": OPEN, "minItems": 1}),
            inside({"type": "array", "items": CLOSED, "minItems": 1}, additionalProperties=False),
        ),
        (
            inside({"anyOf": [OPEN, {"type": "null"}]}),
            inside({"anyOf": [CLOSED, {"type": "null"}]}, additionalProperties=False),
        ),
        (
            inside({"$ref": "#/$defs/o"}, **{"$defs": {"o": OPEN}, "$schema": "any"}),
            inside({"$ref": "#/$defs/o"}, **{"$defs": {"o": CLOSED}}, additionalProperties=False),
        ),
        (
            inside(
                {"type": ["object", "null"], **{k: OPEN[k] for k in ("properties", "required")}}
            ),
            inside(
                {**CLOSED, "type": ["object", "null"]},
                additionalProperties=False,
            ),
        ),
    ],
)
def test_a_strict_form(schema: dict[str, Any], form: dict[str, Any]) -> None:
    """Open objects are closed; annotations go."""
    assert strict_form(schema) == form
    assert strictness(schema) == {"schema": form, "strict": True}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "array", "items": TEXT},
        {"anyOf": [OPEN]},
        OPTIONAL,
        OPEN | {"additionalProperties": True},
        OPEN | {"additionalProperties": TEXT},
        {"type": "object", "additionalProperties": TEXT},
        OPEN | {"patternProperties": {"^x": TEXT}},
        OPEN | {"allOf": [OPEN]},
        inside(OPTIONAL),
        inside({}),
        inside({"title": "X", "description": "whatever"}),
        inside(TEXT | {"default": "x"}),
        inside(TEXT | {"minLength": 1}),
        inside({"oneOf": [TEXT]}),
        inside({"anyOf": [OPEN, inside(TEXT)]}),
        inside({"$ref": "#/$defs/o", "description": "one"}, **{"$defs": {"o": OPEN}}),
        inside({"properties": {"a": TEXT}}),
        {"type": "object", "properties": {"x": True}, "required": ["x"]},
    ],
)
def test_what_is_not_strict_is_sent_as_it_is(schema: dict[str, Any]) -> None:
    """The API takes every schema that is not strict."""
    assert strict_form(schema) is None
    assert strictness(schema) == {"schema": schema, "strict": False}


def test_constraints_that_a_form_lacks_become_words() -> None:
    """The model reads them, and the document is checked against them later."""
    count = {"type": "integer", "minimum": 1, "description": "How many"}
    form = closed_form(inside(count, required=[]))
    assert form == {
        "type": "object",
        "properties": {"x": {"type": "integer", "description": 'How many\n{"minimum": 1}'}},
        "required": [],
        "additionalProperties": False,
    }
    assert closed_form({"type": ["string", "null"], "pattern": "^a"}) == {
        "anyOf": [
            {"type": "string", "description": '{"pattern": "^a"}'},
            {"type": "null", "description": '{"pattern": "^a"}'},
        ]
    }
    assert closed_form({"oneOf": [TEXT, OPEN]}) == {"anyOf": [TEXT, CLOSED]}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        OPEN | {"additionalProperties": True},
        inside({}),
        inside({"type": "object", "additionalProperties": TEXT}),
        inside({"allOf": [OPEN, OPTIONAL]}),
        inside({"items": True}),
        TREE | {"$defs": {"tree": TREE}},
        inside({"$ref": "#"}),
        inside({"$ref": "#/$defs/none"}),
        inside({"$ref": 5}),
    ],
)
def test_what_has_no_closed_form(schema: dict[str, Any]) -> None:
    """Then the model is told."""
    assert closed_form(schema) is None


class Stop(BaseModel):
    """A stop of a journey."""

    name: str = Field(min_length=1, description="Where")
    minutes: int | None = Field(None, ge=0)


class Journey(BaseModel):
    title: str
    stops: list[Stop]


@pytest.mark.parametrize("schema", [OPEN, OPTIONAL, Journey.model_json_schema(), inside(CLOSED)])
def test_a_document_of_a_form_fits_the_schema(schema: dict[str, Any]) -> None:
    """A form admits nothing that a person would not have written. (Constraints in words apart.)"""
    for form in filter(None, (strict_form(schema), closed_form(schema))):
        jsonschema.Draft202012Validator.check_schema(form)
        try:
            jsonschema.validate(instance(form, ("word",)), schema)
        except NoInstance:
            pytest.fail("the form has no instance")
    assert closed_form(schema) is not None
