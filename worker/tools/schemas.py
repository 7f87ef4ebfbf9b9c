"""The arguments of an HTTP tool: a JSON Schema from the catalogue, and the check of the JSON text
that a model (or a person, who edits it) wrote.

Guarantees: a schema that does not parse, refers to another place than itself, or recurses without
end is refused when the process starts. A check ends within CHECK_SECONDS, whatever the schema and
the value, and holds no event loop.

Why a process for the check: references can make a check exponential (`anyOf` with two branches that
lead back, 40 levels deep), a thread cannot be ended, and what runs in it keeps a core. A process
can be killed. It costs about 0.1 s, so it checks only what may be expensive, and words what is
wrong. A schema without references, patterns and `uniqueItems` is a tree: each of its nodes meets
each value once, and valid arguments need no process.

Rejected: Python's own patterns, which can take exponential time under Python's lock; a resident
process, whose state would have to be supervised.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

from tokenwire.protocol.text import MAX_JSON_DEPTH, input_object
from tokenwire.worker.tools import checking
from tokenwire.worker.tools.arguments import BadArguments, refusal

CHECK_SECONDS = 5.0
MAX_SCHEMA_BYTES = 64 * 1024
MAX_ARGUMENT_BYTES = 64 * 1024
NOT_CHECKED = "The arguments could not be checked."

_EXPENSIVE = frozenset({"$ref", "pattern", "patternProperties", "uniqueItems"})
_IN_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_IN_MAPPINGS = frozenset(
    {"$defs", "definitions", "properties", "patternProperties", "dependentSchemas"}
)
_SINGLE = frozenset(
    {"additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if", "items",
     "not", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"}
)  # fmt: skip
_SAME_VALUE = frozenset(
    {"allOf", "anyOf", "dependentSchemas", "else", "if", "not", "oneOf", "then"}
)
"""Keywords whose schemas apply to the same value, not to a part of it."""
_FOREIGN = frozenset({"$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef"})
"""Other ways to refer. No generator of schemas needs them, and few providers know them."""


class BadSchema(ValueError):
    """The schema cannot be used. One line says why."""


class SchemaReader:
    """The arguments of one tool, for a function that gets them as `arguments`."""

    context_name = "context"

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Raises BadSchema."""
        used = _checked(schema)
        self.schema = schema
        self._cheap = used.isdisjoint(_EXPENSIVE)
        try:
            self._validator = checking.validator(schema)
        except jsonschema_rs.ValidationError as error:
            path = [str(step) for step in error.instance_path]
            words = error.message.removeprefix("value ").split("\n")[0]
            raise BadSchema(": ".join([*([".".join(path)] if path else []), words])[:300]) from None

    def read(self, text: str) -> dict[str, Any]:
        """The arguments by parameter. Raises BadArguments. Call it in a thread: it may take
        CHECK_SECONDS.
        """
        if len(text.encode(errors="surrogatepass")) > MAX_ARGUMENT_BYTES:
            raise BadArguments(f"The arguments have more than {MAX_ARGUMENT_BYTES} bytes.")
        value = input_object(text)
        if value is None:
            raise BadArguments("The arguments are no JSON object.")
        if not (self._cheap and self._validator.is_valid(value)) and (
            mistakes := _mistakes_apart(self.schema, value)
        ):
            raise BadArguments(refusal(mistakes))
        return {"arguments": value}


def _mistakes_apart(schema: Mapping[str, Any], value: Any) -> list[tuple[str, str]]:
    """The mistakes, found by a process of their own. Raises BadArguments."""
    given = json.dumps({"schema": schema, "value": value})
    try:
        ended = subprocess.run(  # noqa: S603 -- our own module
            [sys.executable, "-P", checking.__file__],
            input=given.encode(),
            capture_output=True,
            timeout=CHECK_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        raise BadArguments(NOT_CHECKED) from None
    return [(path, words) for path, words in json.loads(ended.stdout)]


# --- what no schema may have ---------------------------------------------------------------------


def _checked(schema: Mapping[str, Any]) -> set[str]:
    """The keywords that the schema uses. Raises BadSchema."""
    try:
        size = len(json.dumps(schema, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError):
        raise BadSchema("is no JSON, or nests too deeply") from None
    if size > MAX_SCHEMA_BYTES:
        raise BadSchema(f"has more than {MAX_SCHEMA_BYTES} bytes")
    if schema.get("type") != "object":
        raise BadSchema("must have the type object")
    nodes = list(_nodes(schema, MAX_JSON_DEPTH))
    for node in nodes[1:]:
        if "$id" in node:
            raise BadSchema("$id is supported at the top only")
    used = {keyword for node in nodes for keyword in node}
    if foreign := sorted(_FOREIGN & used):
        raise BadSchema(f"{foreign[0]} is not supported; refer with $ref, such as #/$defs/name")
    safe: set[int] = set()
    try:
        for node in nodes:
            _refuse_endless(schema, node, set(), safe)
    except RecursionError:
        raise BadSchema("has a chain of references that is too long") from None
    return used


def _nodes(schema: Any, depth: int) -> Iterator[Mapping[str, Any]]:
    """The schema and all schemas in it."""
    if depth < 0:
        raise BadSchema(f"nests deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(schema, Mapping):
        yield schema
        for keyword, value in schema.items():
            for inner in _schemas_in(keyword, value):
                yield from _nodes(inner, depth - 1)


def _schemas_in(keyword: str, value: Any) -> Iterator[Any]:
    if keyword in _IN_MAPPINGS and isinstance(value, Mapping):
        yield from value.values()
    elif keyword in _IN_LISTS and isinstance(value, list):
        yield from value
    elif keyword in _SINGLE:
        yield value


def _refuse_endless(root: Any, schema: Any, path: set[int], safe: set[int]) -> None:
    """Raises BadSchema if the schema leads back to itself at the same value."""
    if id(schema) in path:
        raise BadSchema("recurses without end")
    if not isinstance(schema, Mapping) or id(schema) in safe:
        return
    path.add(id(schema))
    if "$ref" in schema:
        _refuse_endless(root, _target(root, schema["$ref"]), path, safe)
    for keyword in _SAME_VALUE & schema.keys():
        for inner in _schemas_in(keyword, schema[keyword]):
            _refuse_endless(root, inner, path, safe)
    path.remove(id(schema))
    safe.add(id(schema))


def _target(root: Any, ref: Any) -> Any:
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        raise BadSchema(f"$ref: {str(ref)[:100]!r} is no place in the schema, such as #/$defs/name")
    found = root
    for step in ref.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        found = found.get(key) if isinstance(found, Mapping) else None
    if found is None:
        raise BadSchema(f"$ref: there is no {ref[:100]}")
    return found
