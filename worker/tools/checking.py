"""Checks a value against a JSON Schema. As a script it does so in a process of its own.

Guarantees: nothing is fetched (`offline`); patterns take linear time and limited space, because
their engine has no look-around and no references back. What else a schema may cost is bounded by
the process: its memory here, its time by who starts it.

The script gets `{"schema", "value"}` on its standard input and writes a list of mistakes, each a
path and what is wrong there. It imports nothing of the package, so it starts fast.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema_rs

PATTERN_BYTES = 256 * 1024
"""The largest compiled pattern."""
_MEMORY_BYTES = 1024 * 1024 * 1024
_MOST = 50
"""So many mistakes are reported; a text for a model names fewer."""
_TYPES = {
    "array": "an array",
    "boolean": "true or false",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}


def validator(schema: Mapping[str, Any]) -> jsonschema_rs.Validator:
    """Raises jsonschema_rs.ValidationError for a schema that does not parse."""
    return jsonschema_rs.validator_for(
        dict(schema),
        pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES),
        mask="value",
        offline=True,
    )


def mistakes(schema: Mapping[str, Any], value: Any) -> list[tuple[str, str]]:
    """The path of each mistake, and what is wrong there."""
    found: list[tuple[str, str]] = []
    for error in validator(schema).iter_errors(value):
        found.extend(_worded(error))
        if len(found) >= _MOST:
            break
    return found[:_MOST]


def _worded(error: jsonschema_rs.ValidationError) -> Iterator[tuple[str, str]]:
    path, kind = [str(step) for step in error.instance_path], error.kind.as_dict()
    match error.kind.name:
        case "required":
            yield ".".join([*path, str(kind["property"])]), "is missing"
        case "additionalProperties" | "unevaluatedProperties":
            for name in kind["unexpected"]:
                yield ".".join([*path, str(name)]), "is not a parameter"
        case "type":
            types = " or ".join(_TYPES.get(str(each), str(each)) for each in kind["types"])
            yield ".".join(path), f"must be {types}"
        case _:
            yield ".".join(path), error.message.removeprefix("value ")


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):  # not every system can
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


if __name__ == "__main__":
    _limit_memory()
    given = json.load(sys.stdin)
    json.dump(mistakes(given["schema"], given["value"]), sys.stdout)
