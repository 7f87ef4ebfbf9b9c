"""Pure: a small JSON value that fits a JSON schema, always the same for the same words.

For the demo model's arguments and documents. It reads types, `enum`, `const`, `required`,
`properties`, `items`, `prefixItems`, bounds of lengths, counts and numbers, `multipleOf`,
`anyOf`, `oneOf`, `allOf`, `format` and `$ref` within the schema; the items of a list differ. Of an
object without `required`, all properties are filled. A text is a word of the question (`words`), if
it fits. It does not read `not`, `if`, `dependentRequired` and `patternProperties`, and a `pattern`
only if a usual text fits it.

Work is bounded: a schema that recurses without end has no instance.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_DEPTH = 16
MAX_VALUES = 2_000
_FORMATS = {
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "date-time": "2026-01-31T12:00:00Z",
    "duration": "PT1H",
    "email": "ada@example.org",
    "hostname": "example.org",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.org/",
    "url": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_USUAL = ("a", "A", "0", "1", "abc", "ABC", "12345", "a1", "A1", "2026-01-31", "12:00", "")
_IMPLIED = {
    "properties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "minLength": "string",
    "maxLength": "string",
    "pattern": "string",
    "format": "string",
    "minimum": "number",
    "maximum": "number",
    "multipleOf": "number",
}


_SLOW = re.compile(r"\)[*+?{]")
_CHOICES = re.compile(r"[*+?{|]")
_LONG, _SHORT = 200, 40
"""A pattern of a stranger must not hold the worker's loop: no repeated groups, few repetitions and
alternatives.
"""

_MISTAKES = (
    TypeError,
    ValueError,
    AttributeError,
    LookupError,
    ArithmeticError,
    RecursionError,
    re.error,
)
"""What reading a schema raises that is none."""


class NoInstance(ValueError):
    """No instance was found."""


def instance(schema: Mapping[str, Any], words: Sequence[str]) -> Any:
    """A value that fits. `words`: texts for its string fields, in order. Raises NoInstance."""
    try:
        return _Maker(schema, words or ["demo"]).make(schema, MAX_DEPTH)
    except _MISTAKES as error:
        raise NoInstance(f"no value for this schema: {error}") from error


class _Maker:
    def __init__(self, root: Mapping[str, Any], words: Sequence[str]) -> None:
        self._root, self._words = root, words
        self._used = 0
        self._values = 0

    def make(self, schema: Any, depth: int, nth: int = 0) -> Any:
        """A value; `nth`: another one for each number, as far as the schema has others."""
        self._count()
        if schema is False or depth <= 0:
            raise NoInstance("it excludes every value, or recurses too deeply")
        if schema is True:
            schema = {}
        schema = self._merged(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][nth % len(schema["enum"])]
        for name in ("anyOf", "oneOf"):
            if schema.get(name):
                return self._first(schema, name, depth, nth)
        return self._of_type(_type(schema), schema, depth, nth)

    def _count(self) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise NoInstance("it takes too many steps")

    def _merged(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """With what `$ref` and `allOf` name."""
        self._count()
        merged = {name: value for name, value in schema.items() if name not in ("$ref", "allOf")}
        others = [self._target(schema["$ref"])] if "$ref" in schema else []
        for other in [*others, *schema.get("allOf", ())]:
            if other is False or depth <= 0:
                raise NoInstance("it recurses too deeply")
            if other is True:
                continue
            found = self._merged(other, depth - 1)
            both = (*merged.get("required", ()), *found.get("required", ()))
            required = list(dict.fromkeys(both))
            properties = {**found.get("properties", {}), **merged.get("properties", {})}
            merged = {**found, **merged}
            if required:
                merged["required"] = required
            if properties:
                merged["properties"] = properties
        return merged

    def _target(self, pointer: str) -> Any:
        if not pointer.startswith("#"):
            raise NoInstance(f"$ref leads elsewhere: {pointer[:80]}")
        found: Any = self._root
        for step in pointer[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            found = found[int(name)] if isinstance(found, list) else found[name]
        return found

    def _first(self, schema: Mapping[str, Any], name: str, depth: int, nth: int) -> Any:
        """The first alternative that has an instance, null last."""
        rest = {key: value for key, value in schema.items() if key != name}
        options = sorted(schema[name], key=lambda one: one == {"type": "null"})
        for option in options:
            try:
                return self.make({**rest, "allOf": [option]}, depth - 1, nth)
            except NoInstance:
                continue
        raise NoInstance(f"no alternative of {name} is possible")

    def _of_type(self, kind: str, schema: Mapping[str, Any], depth: int, nth: int) -> Any:
        match kind:
            case "object":
                return self._object(schema, depth)
            case "array":
                return self._array(schema, depth)
            case "integer" | "number":
                return _number(schema, nth, whole=kind == "integer")
            case "boolean":
                return nth % 2 == 0
            case "null":
                return None
        return self._text(schema, nth)

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = list(dict.fromkeys(schema.get("required", ())))
        made: dict[str, Any] = {}
        for name in required or properties:
            try:
                made[name] = self.make(properties.get(name, True), depth - 1)
            except NoInstance:
                if name in required:
                    raise
        rest = schema.get("additionalProperties", True)
        for name in [*properties, *(f"key{number}" for number in range(64))]:
            if len(made) >= schema.get("minProperties", 0):
                break
            if name not in made:
                made[name] = self.make(properties.get(name, rest), depth - 1)
        return made

    def _array(self, schema: Mapping[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems", [])
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        items = schema.get("items", True)
        made: list[Any] = []
        for number in range(min(max(least, len(first), 1), most)):
            try:
                part = first[number] if number < len(first) else items
                made.append(self.make(part, depth - 1, number))
            except NoInstance:
                if number < least:
                    raise
                break
        return made

    def _text(self, schema: Mapping[str, Any], nth: int) -> str:
        if schema.get("format") in _FORMATS and "pattern" not in schema:
            return _FORMATS[schema["format"]]
        word = self._words[self._used % len(self._words)]
        self._used += 1
        word = f"{word} {nth + 1}" if nth else word
        least, most = schema.get("minLength", 0), schema.get("maxLength", 10_000)
        if least > MAX_VALUES or least > most:
            raise NoInstance("a text of that length is not made")
        fitting = [text.ljust(least, "x")[:most] for text in (word, *_USUAL)]
        pattern = schema.get("pattern")
        if pattern is None:
            return fitting[0]
        if _SLOW.search(pattern) or len(pattern) > _LONG or len(_CHOICES.findall(pattern)) > 4:
            raise NoInstance("the pattern may take too long")
        short = [text for text in fitting if len(text) <= _SHORT]
        found = next((text for text in short if re.search(pattern, text)), None)
        if found is None:
            raise NoInstance("no usual text fits the pattern")
        return found


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    return kind or next((_IMPLIED[name] for name in schema if name in _IMPLIED), "string")


def _number(schema: Mapping[str, Any], nth: int, *, whole: bool) -> float:
    least, above = schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)
    most, below = schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf)
    low, high = max(least, above), min(most, below)
    step = schema.get("multipleOf", 1 if whole else 0)
    unit = step or min(1, (high - low) / 4 or 1)
    start = low if low > -math.inf else min(1, high)
    base = math.ceil(start / unit) * unit if step else start
    for number in (nth, nth + 1, 0, 1, -1):
        value = base + number * unit
        if least <= value <= most and above < value < below and (not whole or value == int(value)):
            return int(value) if whole else value
    raise NoInstance("no number is in the range")
