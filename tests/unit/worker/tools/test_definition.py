"""How a function becomes a tool, and which functions cannot."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from tokenwire.tools import ToolContext, ToolMisuse, tool
from tokenwire.worker.tools.definition import ServerTool, declared


class Place(BaseModel):
    city: str
    country: str = "FR"


@dataclass
class Range:
    first: int
    last: int


def made(function: Callable[..., Any], **options: Any) -> ServerTool:
    """The tool of a function."""
    found = declared(tool(**options)(function))
    assert found is not None
    return found


def test_a_function_becomes_a_tool_and_stays_a_function() -> None:
    @tool
    def weather(
        context: ToolContext,
        city: Annotated[str, Field(description="A city, such as Paris")],
        days: int = 1,
    ) -> str:
        """Forecast the weather
        of a city.

        This is for programmers.
        """
        return f"{city} {days} {context.key}"

    found = declared(weather)
    assert found is not None
    assert weather(ToolContext("k"), "Paris") == "Paris 1 k"
    assert (found.name, found.title, found.description) == (
        "weather",
        None,
        "Forecast the weather of a city.",
    )
    assert (found.repeatable, found.seconds, found.approve, found.is_async) == (
        False,
        None,
        False,
        False,
    )
    assert found.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "A city, such as Paris"},
            "days": {"type": "integer", "default": 1},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert found.begin(found.reader.read('{"city": "Rome"}'), ToolContext("x")) == "Rome 1 x"


def test_options_win() -> None:
    def decide(arguments: Any, context: ToolContext) -> bool:
        return True

    @tool(
        name="pay-2", title="Pay", description="Pay it.", repeatable=True, seconds=5, approve=decide
    )
    async def pay() -> None:
        """Another text."""

    found = declared(pay)
    assert found is not None
    assert (found.name, found.title, found.description) == ("pay-2", "Pay", "Pay it.")
    assert (found.repeatable, found.seconds, found.approve, found.is_async) == (
        True,
        5,
        decide,
        True,
    )
    assert found.parameters == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_any_name_of_a_parameter_works() -> None:
    """Even those that pydantic keeps for itself, and the name `p0`."""

    def odd(schema: int, json: int, _x: int, model_config: int, p0: int = 5) -> list[int]:
        """Odd."""
        return [schema, json, _x, model_config, p0]

    found = made(odd)
    given = found.reader.read('{"schema": 1, "json": 2, "_x": 3, "model_config": 4}')
    assert list(found.parameters["properties"]) == ["schema", "json", "_x", "model_config", "p0"]
    assert found.begin(given, ToolContext("k")) == [1, 2, 3, 4, 5]


def test_models_and_dataclasses_are_parameters() -> None:
    def route(start: Place, *, between: Range) -> tuple[Place, Range]:
        """Route."""
        return start, between

    found = made(route)
    given = found.reader.read('{"start": {"city": "Lyon"}, "between": {"first": 1, "last": 2}}')
    assert found.begin(given, ToolContext("k")) == (Place(city="Lyon"), Range(1, 2))
    assert found.parameters["$defs"]["Range"]["required"] == ["first", "last"]


def star(*values: int) -> None:
    """Doc."""


def stars(**values: int) -> None:
    """Doc."""


def only_by_place(value: int, /) -> None:
    """Doc."""


def unhinted(value) -> None:  # type: ignore[no-untyped-def]
    """Doc."""


def called(value: Callable[[], None]) -> None:
    """Doc."""


def opaque(value: "Opaque") -> None:
    """Doc."""


class Opaque:
    """No type of JSON."""


def holding(first: int, value: "list[Opaque]") -> None:
    """Doc."""


def misused(value: Annotated[str, Field(pattern="(")]) -> None:
    """Doc."""


def late(value: int, context: ToolContext) -> None:
    """Doc."""


def yields() -> Iterator[int]:
    """Doc."""
    yield 1


async def yields_later() -> AsyncIterator[int]:
    """Doc."""
    yield 1


def undocumented() -> None:
    pass


def fine() -> None:
    """Doc."""


async def decides_later(arguments: Any, context: ToolContext) -> bool:
    return True


def infinite(value: float = float("inf")) -> None:
    """Doc."""


@pytest.mark.parametrize(
    ("function", "options", "why"),
    [
        (star, {}, r"parameter \*values has no fixed name"),
        (stars, {}, r"parameter \*values has no fixed name"),
        (only_by_place, {}, "parameter value is positional-only"),
        (unhinted, {}, "parameter value has no type"),
        (
            called,
            {},
            r"parameter value: .*Callable\[\[\], None(Type)?\] has no JSON form; use numbers",
        ),
        (opaque, {}, rf"tool: parameter value: {__name__}\.Opaque has no JSON form; use .* these$"),
        (holding, {}, rf"parameter value: list\[{__name__}\.Opaque\] has no JSON form; use"),
        (misused, {}, r"parameter value: str has no JSON form: error: unclosed group$"),
        (late, {}, "only its first parameter can be a ToolContext"),
        (yields, {}, "it yields"),
        (yields_later, {}, "it yields"),
        (undocumented, {}, "it has no docstring"),
        (fine, {"name": "a b"}, "the name 'a b' is not"),
        (fine, {"name": "a" * 65}, "is not 1 to 64"),
        (fine, {"name": "a\n"}, "is not 1 to 64"),
        (fine, {"seconds": 0}, "seconds must be above 0"),
        (fine, {"seconds": float("nan")}, "seconds must be above 0"),
        (fine, {"approve": decides_later}, "approve must be"),
        (fine, {"approve": "yes"}, "approve must be"),
        (infinite, {}, "parameter value: float = inf has no JSON form: Out of range"),
        (Opaque, {}, "it is no function"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_in_one_line(
    function: Callable[..., Any], options: dict[str, Any], why: str
) -> None:
    """At import, with the function's name."""
    with pytest.raises(ToolMisuse, match=why) as refused:
        tool(**options)(function)
    text = str(refused.value)
    assert text.startswith(f"{__name__}.{function.__qualname__} cannot be a tool: ")
    assert "\n" not in text


def test_a_type_that_cannot_be_resolved_is_refused() -> None:
    def broken(value: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
        """Doc."""

    with pytest.raises(ToolMisuse, match="a type cannot be resolved: name 'Nowhere'"):
        tool(broken)
