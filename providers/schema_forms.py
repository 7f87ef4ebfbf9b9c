"""Pure: a JSON schema in the forms that providers take.

A provider whose decoding is held to a schema takes a part of JSON Schema, and refuses a request
with anything else (OpenAI: "Supported schemas" of Structured Outputs; Anthropic: "JSON Schema
limitations" of the same). Guarantees: an object that says nothing of further members is closed, so
a document that fits a form has no member that the schema does not name. What a form cannot say
stands in a description for the model. Nothing is lost: each document is checked against the whole
schema later.

Rejected: `strict` with every schema (OpenAI answers 400 to one with an open object); requiring
optional properties (the model would have to invent values); closing objects that are declared open.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_Schema = Mapping[str, Any]

_ANNOTATIONS = frozenset(
    ("$schema", "$id", "$comment", "examples", "deprecated", "readOnly", "writeOnly")
)
_DEFINING = ("$defs", "definitions")
_OF_OBJECTS = ("type", "properties", "required", "additionalProperties")
_OF_VALUES = ("items", "anyOf", "enum", "const", "$ref", "title", "description")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems")
_KINDS = frozenset(("type", "anyOf", "oneOf", "allOf", "$ref"))
"""One of them says which values a schema is about."""
_EVERYWHERE = frozenset((*_OF_OBJECTS, *_OF_VALUES, *_DEFINING))
_OPENAI = _EVERYWHERE | {*_BOUNDS, "pattern", "format", "multipleOf"}
_ANTHROPIC = _EVERYWHERE | {"default"}


class _Inexpressible(Exception):
    """The form has no such schema."""


def strict_form(schema: _Schema) -> dict[str, Any] | None:
    """The schema for OpenAI's strict mode; None if that cannot express it.

    Every property must be required, and the root must be an object.
    """
    try:
        if schema.get("type") != "object":
            return None
        return _strict(schema)
    except _Inexpressible:
        return None


def strictness(schema: _Schema) -> dict[str, Any]:
    """The members `schema` and `strict` of a request in OpenAI's dialects."""
    form = strict_form(schema)
    return {"schema": schema if form is None else form, "strict": form is not None}


def closed_form(schema: _Schema) -> dict[str, Any] | None:
    """The schema for Anthropic's decoding; None if that cannot express it: an open object, any
    value, a reference that recurses.
    """
    try:
        _require_finite(schema, schema, ())
        return _closed(schema)
    except _Inexpressible:
        return None


def _strict(node: Any) -> dict[str, Any]:
    found = _plain(node)
    names, required = found.get("properties", {}), found.get("required", [])
    if not _OPENAI.issuperset(found) or ("$ref" in found and len(found) > 1):
        raise _Inexpressible
    if set(names) != set(required):
        raise _Inexpressible
    branches = [each for each in found.get("anyOf", []) if _may_be_object(each)]
    if len(branches) > 1:  # the API wants them to differ in their first names
        raise _Inexpressible
    return _with_inner(_with_closed_object(found), _strict)


def _closed(node: Any) -> dict[str, Any]:
    found = _plain(node)
    if "allOf" in found:  # closed, its schemas would exclude each other's members
        raise _Inexpressible
    if "oneOf" in found and "anyOf" not in found:
        found["anyOf"] = found.pop("oneOf")
    if isinstance(kinds := found.get("type"), list):
        rest = {name: value for name, value in found.items() if name not in ("type", *_DEFINING)}
        kept = {name: found[name] for name in _DEFINING if name in found}
        return _closed({"anyOf": [{**rest, "type": kind} for kind in kinds], **kept})
    lacking = {name: found.pop(name) for name in sorted(found.keys() - _ANTHROPIC)}
    if lacking:
        words = [found["description"]] if "description" in found else []
        found["description"] = "\n".join([*words, json.dumps(lacking, ensure_ascii=False)])
    return _with_inner(_with_closed_object(found), _closed)


def _plain(node: Any) -> dict[str, Any]:
    if not isinstance(node, Mapping):  # `true` and `false` are schemas, too
        raise _Inexpressible
    if node.keys().isdisjoint(_KINDS):  # any value
        raise _Inexpressible
    return {name: value for name, value in node.items() if name not in _ANNOTATIONS}


def _may_be_object(node: Any) -> bool:
    if not isinstance(node, Mapping):
        return True
    kinds = node.get("type", "object")
    return "object" in (kinds if isinstance(kinds, list) else [kinds])


def _with_closed_object(found: dict[str, Any]) -> dict[str, Any]:
    kinds = found.get("type")
    if kinds != "object" and not (isinstance(kinds, list) and "object" in kinds):
        if "properties" in found or "additionalProperties" in found:
            raise _Inexpressible  # an object, or anything else
        return found
    if not found.get("properties") or found.get("additionalProperties", False) is not False:
        raise _Inexpressible
    return {**found, "additionalProperties": False}


def _with_inner(found: dict[str, Any], form: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    made = dict(found)
    for name in ("properties", *_DEFINING):
        if name in found:
            made[name] = {key: form(value) for key, value in found[name].items()}
    if "items" in found:
        made["items"] = form(found["items"])
    if "anyOf" in found:
        made["anyOf"] = [form(each) for each in found["anyOf"]]
    return made


def _require_finite(root: _Schema, node: Any, through: Sequence[str]) -> None:
    if isinstance(node, list):
        for each in node:
            _require_finite(root, each, through)
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        if name == "$ref":
            _require_finite(root, _target(root, value, through), (*through, value))
        elif name not in _DEFINING:
            _require_finite(root, value, through)


def _target(root: _Schema, reference: Any, through: Sequence[str]) -> Any:
    place, _, name = str(reference).removeprefix("#/").partition("/")
    if place not in _DEFINING or name not in root.get(place, {}) or reference in through:
        raise _Inexpressible
    return root[place][name]
