"""The process that `schemas` starts: it checks schemas, and one text against the last of them.

It reads `{"schemas", "cpu_seconds", "nice", "text"?}` from stdin, and writes `{"bad_schema",
"number"}` (why, and which one) or `{"errors"}` to stdout: pairs of a path and what is wrong there.
It imports nothing of ours, so it starts fast. Its limits end it if it computes for too long.
"""

import itertools
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

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
    asked, validators = json.load(sys.stdin), list[Any]()
    os.nice(asked["nice"])
    signal.setitimer(signal.ITIMER_PROF, asked["cpu_seconds"])  # nothing catches it: it ends us
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
    references, ended = _References(schema), set[int]()
    for place, start in references.objects:
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
                to_do += [(other, False) for other in references.applied(one)]
    return None


class _References:
    """Which schemas apply to the same value as another one. A schema with an `$id` of its own is
    the root of the pointers and anchors in it.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self.objects: list[tuple[str, dict[str, Any]]] = []
        self._roots: dict[int, dict[str, Any]] = {}
        self._anchors: dict[tuple[int, str], dict[str, Any]] = {}
        self._read(schema, "#", schema)

    def _read(self, value: Any, place: str, root: dict[str, Any]) -> None:
        pairs: Any = ()
        if isinstance(value, dict):
            names = [value.get(name) for name in ("$id", "id")]
            if any(isinstance(name, str) and not name.startswith("#") for name in names):
                root = value
            names = [str(name)[1:] for name in names if str(name).startswith("#")]
            for name in (*names, value.get("$anchor"), value.get("$dynamicAnchor")):
                if isinstance(name, str):
                    self._anchors.setdefault((id(root), name), value)
            self._roots[id(value)] = root
            self.objects.append((place, value))
            pairs = value.items()
        elif isinstance(value, list):
            pairs = enumerate(value)
        for name, inner in pairs:
            self._read(inner, f"{place}/{name}", root)

    def applied(self, one: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The schemas that apply to the same value as this one."""
        found = [one.get(name) for name in _IN_PLACE]
        for name in _IN_PLACE_LISTS:
            many = one.get(name)
            found += many if isinstance(many, list) else []
        reference = one.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            found.append(self._target(unquote(reference[1:]), self._roots[id(one)]))
        yield from (inner for inner in found if isinstance(inner, dict))

    def _target(self, fragment: str, root: dict[str, Any]) -> Any:
        if fragment and not fragment.startswith("/"):
            return self._anchors.get((id(root), fragment))
        value: Any = root
        for name in fragment.split("/")[1:]:
            if isinstance(value, list):
                value = dict(enumerate(value)).get(int(name)) if name.isdecimal() else None
            else:
                name = name.replace("~1", "/").replace("~0", "~")
                value = value.get(name) if isinstance(value, dict) else None
        return value


if __name__ == "__main__":
    main()
