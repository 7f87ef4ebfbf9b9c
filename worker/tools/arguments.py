"""The arguments of a tool: a JSON Schema from the parameters of a function, and values from the
JSON text that a model (or a person, who edits it) wrote.

Guarantees: nothing but a JSON object that fits the schema becomes values; a refusal is a short text
about JSON, which a model can act upon. Types are strict as in JSON: the text "5" is no number. A
name that the tool does not know is refused, because a model that invents one means something by it.

Each parameter is a field of a pydantic model, with the parameter's name as its alias: so a
parameter may be called `schema`, `json` or `_x`. Rejected: TypedDict, whose keys have no defaults;
pydantic's `validate_call`, which calls the function where it validates.
"""

import inspect
import json
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import (
    PydanticInvalidForJsonSchema,
    PydanticSchemaGenerationError,
    PydanticUserError,
)
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import ErrorDetails, PydanticUndefined, SchemaError

from tokenwire.protocol.text import input_object, storable
from tokenwire.worker.tools.context import ToolContext

NO_OBJECT = "The arguments are no JSON object, or hold a name twice."
_MAX_MISTAKES = 5
_MAX_MISTAKE_CHARS = 200
_USABLE = "use numbers, texts, lists, dates, enums, and dataclasses or pydantic models of these"


class ToolMisuse(TypeError):
    """A function cannot be a tool. One line says which function, and why."""


class BadArguments(Exception):
    """The arguments do not fit. The text is for the model."""


class _Untitled(GenerateJsonSchema):
    """Titles that only repeat the names of fields would cost tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 -- pydantic's hook
        return False


class ArgumentReader:
    """The parameters of one function, without the context."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises ToolMisuse."""
        hints = _hints(function)
        parameters = list(inspect.signature(function).parameters.values())
        self.context_name = _context_name(parameters, hints)
        """The parameter that gets the context, if there is one."""
        given = [_hinted(each, hints) for each in parameters if each.name != self.context_name]
        self._names = [each.name for each in given]
        for parameter in given:
            _require_json_form(parameter)
        self._model = _model(given)
        self.schema: Mapping[str, Any] = _schema(self._model)

    def read(self, text: str) -> dict[str, Any]:
        """The values by parameter. What the text leaves out has its default. Raises
        BadArguments.
        """
        value = input_object(text)
        if value is None:
            raise BadArguments(NO_OBJECT)
        try:
            found = self._model.model_validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            mistakes = error.errors(include_url=False, include_input=False)
            pairs = ((_path(each, value), _mistake(each)) for each in mistakes)
            raise BadArguments(refusal(pairs)) from None
        except Exception as error:
            # A validator of the application may fail in any way.
            raise BadArguments("The arguments could not be checked.") from error
        return {name: getattr(found, f"p{n}") for n, name in enumerate(self._names)}


# --- from a function to a schema ----------------------------------------------------------------


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise ToolMisuse(f"a type cannot be resolved: {_line(error)}") from error


def _context_name(parameters: Sequence[inspect.Parameter], hints: Mapping[str, Any]) -> str | None:
    wanting = [each.name for each in parameters if hints.get(each.name) is ToolContext]
    if not wanting:
        return None
    if wanting != [parameters[0].name]:
        raise ToolMisuse("only its first parameter can be a ToolContext")
    return wanting[0]


def _hinted(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> inspect.Parameter:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise ToolMisuse(f"parameter *{parameter.name} has no fixed name")
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise ToolMisuse(f"parameter {parameter.name} is positional-only")
    if parameter.name not in hints:
        raise ToolMisuse(f"parameter {parameter.name} has no type")
    return parameter.replace(annotation=hints[parameter.name])


def _require_json_form(parameter: inspect.Parameter) -> None:
    # One by one: pydantic's errors do not say which field they are about.
    try:
        _schema(_model([parameter]))
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema) as error:
        shown = _shown(parameter.replace(default=parameter.empty))
        raise ToolMisuse(f"parameter {shown} has no JSON form; {_USABLE}") from error
    except (PydanticUserError, SchemaError, TypeError, ValueError, NameError) as error:
        why = f"parameter {_shown(parameter)} has no JSON form: {_line(error)}"
        raise ToolMisuse(why) from error


def _shown(parameter: inspect.Parameter) -> str:
    hint = parameter.annotation
    bare = hint.__origin__ if typing.get_origin(hint) is Annotated else hint
    return _short(str(parameter.replace(annotation=bare)))


def _model(parameters: Sequence[inspect.Parameter]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        f"p{n}": (
            Annotated[each.annotation, Field(alias=each.name)],
            PydanticUndefined if each.default is each.empty else each.default,
        )
        for n, each in enumerate(parameters)
    }
    return create_model("Parameters", __config__=ConfigDict(extra="forbid"), **fields)


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(schema_generator=_Untitled)
    json.dumps(schema, allow_nan=False)
    schema.pop("title", None)
    return {"properties": {}} | schema


def _line(error: Exception) -> str:
    lines = str(error).split("\n")
    return _short(lines[-1] if isinstance(error, SchemaError) else lines[0])


def _short(text: str) -> str:
    return textwrap.shorten(text, _MAX_MISTAKE_CHARS, placeholder=" ...")


# --- from mistakes to a text for the model -------------------------------------------------------

_WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a parameter",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "none_required": "must be null",
    **dict.fromkeys(["string_type", "bytes_type"], "must be a string"),
    **dict.fromkeys(["int_type", "int_from_float"], "must be an integer"),
    **dict.fromkeys(["list_type", "tuple_type", "set_type", "frozen_set_type"], "must be an array"),
    **dict.fromkeys(
        ["dict_type", "model_type", "dataclass_type", "model_attributes_type"],
        "must be an object",
    ),
}
"""By pydantic's type of a mistake. Its own texts of these name types of Python."""


def refusal(mistakes: Iterable[tuple[str, str]]) -> str:
    """The text for the model: each path, and what is wrong there."""
    found: dict[str, list[str]] = {}
    for path, word in mistakes:
        words = found.setdefault(path, [])
        if word not in words:
            words.append(word)
    lines = [
        f"{storable(path) or 'arguments'}: {', or '.join(words)}"[:_MAX_MISTAKE_CHARS]
        for path, words in found.items()
    ]
    more = len(lines) - _MAX_MISTAKES
    return "The arguments do not fit. " + "; ".join(
        [*lines[:_MAX_MISTAKES], *([f"and {more} more"] if more > 0 else [])]
    )


def _path(mistake: ErrorDetails, value: Any) -> str:
    return ".".join(str(key) for key in _keys(mistake, value))


def _keys(mistake: ErrorDetails, value: Any) -> Iterator[str | int]:
    """The keys that lead to the mistake. The rest of `loc` names members of unions, by types of
    Python.
    """
    for key in mistake["loc"]:
        if isinstance(value, dict) and key in value:
            value = value[str(key)]
            yield key
        elif isinstance(value, list) and isinstance(key, int) and 0 <= key < len(value):
            value = value[key]
            yield key
    if mistake["type"] == "missing":
        yield mistake["loc"][-1]


def _mistake(mistake: ErrorDetails) -> str:
    if known := _WORDS.get(mistake["type"]):
        return known
    text = storable(mistake["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = " ".join(text.removeprefix("Input ").split()).replace("should ", "must ", 1)
    return (text[:1].lower() + text[1:])[:_MAX_MISTAKE_CHARS]
