"""What a tool is, and how a function becomes one."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar, overload

from pydantic import BaseModel

from tokenwire.protocol.states import TOOL_NAME
from tokenwire.worker.tools.arguments import ArgumentReader, ToolMisuse
from tokenwire.worker.tools.context import ToolContext

Approve = bool | Callable[[Mapping[str, Any], ToolContext], bool]
"""Whether a person must allow a call: always, never, or by its arguments. It is called in a thread
of its own.
"""
F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__tokenwire_tool__"


class Accepted(Protocol):
    """What a tool accepts, and how its function gets it."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of the arguments."""

    @property
    def context_name(self) -> str | None:
        """The function's parameter that gets the context."""

    def read(self, text: str) -> dict[str, Any]:
        """The values by the function's parameters, from the JSON text of a model, or of a person.
        Raises BadArguments.
        """


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool that runs on the server."""

    name: str
    title: str | None
    """For people."""
    description: str
    """For the model."""
    repeatable: bool
    """Two runs of one call, even at the same time, act like one."""
    seconds: float | None
    """The longest run; None: TOOL_SECONDS."""
    approve: Approve
    reader: Accepted
    function: Callable[..., Any]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The JSON Schema of its arguments."""
        return self.reader.schema

    @property
    def is_async(self) -> bool:
        """Whether it runs on the loop of tools, not in a thread of its own."""
        return inspect.iscoroutinefunction(self.function)

    def begin(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Call the function: its result, or the coroutine of an async tool."""
        given = {self.reader.context_name: context} if self.reader.context_name else {}
        return self.function(**given, **arguments)


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A tool that no worker executes. `runs_at`: `client` gives the result to the waiting answer;
    `caller` gets the call as the end of the answer.
    """

    name: str
    title: str | None
    description: str
    parameters: Mapping[str, Any]
    runs_at: Literal["client", "caller"] = "client"


AnyTool = ServerTool | ClientTool


@overload
def tool(function: F, /) -> F: ...


@overload
def tool(
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    repeatable: bool = False,
    seconds: float | None = None,
    approve: Approve = False,
) -> Callable[[F], F]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a tool, and return the function itself.

    Its parameters become the schema of the arguments, the first paragraph of its docstring the
    description. `name`: default is the function's. `repeatable`: two runs of one call act like one.
    `seconds`: the longest run. `approve`: whether a person must allow a call; a function of the
    arguments and the context may decide. Raises ToolMisuse.
    """
    if function is None:
        return lambda decorated: _marked(decorated, options)
    return _marked(function, options)


def _marked(function: F, options: Mapping[str, Any]) -> F:
    try:
        setattr(function, _MARK, _defined(function, **options))
    except ToolMisuse as error:
        name = getattr(function, "__qualname__", repr(function))
        where = f"{function.__module__}.{name}"
        raise ToolMisuse(f"{where} cannot be a tool: {error}") from error.__cause__
    return function


def client_tool(
    name: str,
    description: str,
    parameters: Mapping[str, Any] | type[BaseModel],
    *,
    title: str | None = None,
) -> ClientTool:
    """A tool that front ends execute. `parameters`: JSON Schema of the type `object`, or a model.

    Raises ToolMisuse. Whether the schema can be used is checked when a worker starts.
    """
    schema = parameters if isinstance(parameters, Mapping) else parameters.model_json_schema()
    _require_name(name)
    if not description.strip():
        raise ToolMisuse(f"the client tool {name} has no description")
    if schema.get("type") != "object":
        raise ToolMisuse(f"the parameters of the client tool {name} are not of the type object")
    return ClientTool(name, title, description, schema)


def declared(value: Any) -> AnyTool | None:
    """The tool that a value of a module is, or that a function carries."""
    if isinstance(value, ClientTool):
        return value
    found = getattr(value, _MARK, None) if inspect.isfunction(value) else None
    return found if isinstance(found, ServerTool) else None


def _defined(
    function: Callable[..., Any],
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    repeatable: bool = False,
    seconds: float | None = None,
    approve: Approve = False,
) -> ServerTool:
    if not inspect.isfunction(function):
        raise ToolMisuse("it is no function")
    name = name or function.__name__
    text = description or _first_paragraph(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ToolMisuse("it yields; a tool returns its result")
    _require_name(name)
    if not text:
        raise ToolMisuse("it has no docstring, and no description")
    if seconds is not None and not 0 < seconds < float("inf"):
        raise ToolMisuse("seconds must be above 0")
    if not isinstance(approve, bool) and not _decides(approve):
        raise ToolMisuse("approve must be True, False or a function that is not async")
    return ServerTool(
        name, title, text, repeatable, seconds, approve, ArgumentReader(function), function
    )


def _require_name(name: str) -> None:
    if not TOOL_NAME.fullmatch(name):
        raise ToolMisuse(f"the name {name!r} is not 1 to 64 of A-Z a-z 0-9 _ -")


def _decides(approve: Any) -> bool:
    return callable(approve) and not inspect.iscoroutinefunction(approve)


def _first_paragraph(function: Callable[..., Any]) -> str:
    text = inspect.getdoc(function) or ""
    return " ".join(text.split("\n\n")[0].split())
