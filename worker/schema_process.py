"""The process that `schemas` starts: it checks schemas, and one text against the last of them.

It reads `{"schemas", "cpu_seconds", "text"?}` from stdin, and writes `{"bad_schema", "number"}`
(why, and which one) or `{"errors"}` to stdout: pairs of a path and what is wrong there. It imports
nothing of ours, so it starts fast. Its limits end it if it computes for too long.
"""

import itertools
import json
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema_rs

MEMORY_BYTES = 1024 * 1024 * 1024
MAX_ERRORS = 10
MAX_ERROR_CHARS = 300
_TYPES = {
    "array": "an array",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
_IN_PLACE = ("not", "if", "then", "else")
_IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")


class _Unusable(Exception):
    """The sentence says what is wrong, and where."""


def main() -> None:
    """Answer the question on stdin."""
    os.nice(10)  # leases and streams come first
    asked, validators = json.load(sys.stdin), list[Any]()
    resource.setrlimit(resource.RLIMIT_CPU, (asked["cpu_seconds"],) * 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    try:
        for schema in asked["schemas"]:
            validators.append(_validator(schema))
    except _Unusable as error:
        reason = str(error)[:MAX_ERROR_CHARS]
        answer: dict[str, Any] = {"bad_schema": reason, "number": len(validators)}
    else:
        errors = _errors(validators[-1], asked["text"]) if "text" in asked else ()
        answer = {"errors": [(path, words[:MAX_ERROR_CHARS]) for path, words in errors]}
    json.dump(answer, sys.stdout)


def _validator(schema: dict[str, Any]) -> Any:
    try:
        if (place := _loop(schema)) is not None:
            raise _Unusable(f"{place}: the reference leads back to itself")
        return jsonschema_rs.validator_for(schema, mask="value", offline=True)
    except jsonschema_rs.ValidationError as error:
        words = error.message.removeprefix("value ")
        raise _Unusable(f"{_place(error.instance_path)}: {words}") from error
    except (jsonschema_rs.ReferencingError, ValueError, RecursionError) as error:
        raise _Unusable(f"#: {error}") from error


def _errors(validator: Any, text: str) -> Iterator[tuple[list[str], str]]:
    """What is wrong with the text, by its path; nothing if it fits."""
    try:
        value = json.loads(text)
        # Numbers such as NaN or 1e999 and halves of characters cannot be stored.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        found = list(itertools.islice(validator.iter_errors(value), MAX_ERRORS))
    except (ValueError, RecursionError) as error:
        yield [], f"The text is not one JSON document and nothing else: {error}"
        return
    for one in found:
        yield from _worded(one)


def _worded(error: Any) -> Iterator[tuple[list[str], str]]:
    path, kind = [str(step) for step in error.instance_path], error.kind.as_dict()
    match error.kind.name:
        case "required":
            yield [*path, str(kind["property"])], "is missing"
        case "additionalProperties" | "unevaluatedProperties":
            for name in kind["unexpected"]:
                yield [*path, str(name)], "is not known"
        case "type":
            yield path, "must be " + " or ".join(_TYPES.get(str(t), str(t)) for t in kind["types"])
        case _:
            yield path, error.message.removeprefix("value ")


def _place(path: list[str | int]) -> str:
    return "/".join(["#", *map(str, path)])


def _loop(schema: dict[str, Any]) -> str | None:
    """The place of a schema that applies itself to the same value again, without end."""
    ended: set[int] = set()
    for place, start in _objects(schema, "#"):
        under_way: set[int] = set()
        to_do = [(start, False)]
        while to_do:
            one, is_over = to_do.pop()
            if is_over:
                under_way.discard(id(one))
                ended.add(id(one))
            elif id(one) in under_way:
                return place
            elif id(one) not in ended:
                under_way.add(id(one))
                to_do.append((one, True))
                to_do += [(other, False) for other in _applied(one, schema)]
    return None


def _objects(value: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    pairs: Any = ()
    if isinstance(value, dict):
        yield place, value
        pairs = value.items()
    elif isinstance(value, list):
        pairs = enumerate(value)
    for name, inner in pairs:
        yield from _objects(inner, f"{place}/{name}")


def _applied(one: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that apply to the same value as this one."""
    found = [one.get(name) for name in _IN_PLACE]
    for name in _IN_PLACE_LISTS:
        many = one.get(name)
        found += many if isinstance(many, list) else []
    reference = one.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        found.append(_target(reference[1:], schema))
    yield from (inner for inner in found if isinstance(inner, dict))


def _target(pointer: str, schema: dict[str, Any]) -> Any:
    value: Any = schema
    for name in pointer.split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        value = value.get(name) if isinstance(value, dict) else None
    return value


if __name__ == "__main__":
    main()
