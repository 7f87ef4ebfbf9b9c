"""Pure: catalogue entries, presets, and the rungs that both name.

Light: it imports pydantic and one pure module of the package, so a process that only offers models
(web) reads a catalogue without loading a decoder or an HTTP client.

Values are checked on creation, with strict types: a number in quotes is not a number. A
`pydantic.ValidationError` never shows the refused value, which may be a key; `mistake` turns it
into one line.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Annotated, Any, Literal, get_args
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from tokenwire.protocol.states import TOOL_NAME

Rung = Literal["attach", "prefix", "turn", "restart", "none"]
"""A way to resume an answer after a break."""
LADDER: tuple[Rung, ...] = get_args(Rung)
"""All rungs, the best first."""
SERVER_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
"""The names of MCP servers, with which the names of their tools begin."""
_OWN_HEADERS = frozenset({"connection", "content-length", "content-type", "host"})
_MCP_HEADERS = frozenset({"accept", "accept-encoding"})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
Auth = Literal["bearer", "x-api-key", "api-key", "x-goog-api-key", "none"]

_UNKNOWN_KEY = "is not a known key"
_WORDS = {
    "unexpected_keyword_argument": _UNKNOWN_KEY,
    "extra_forbidden": _UNKNOWN_KEY,
    "missing": "is missing",
    "list_type": "must be a list",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "mapping_type": "must be a mapping",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
}
"""Types of pydantic errors whose own message mentions Python."""


def mistake(error: ValidationError, known: Iterable[str] = ()) -> str:
    """The first mistake as `field: what is wrong`, in one line that shows no value.

    An unknown key comes before others, since a key that is missing may be one misspelt. `known`:
    the keys to list then.
    """
    errors = error.errors(include_url=False, include_input=False)
    first = next((each for each in errors if _WORDS.get(each["type"]) == _UNKNOWN_KEY), errors[0])
    message = _WORDS.get(first["type"]) or first["msg"].replace("Input should", "must", 1)
    if message == _UNKNOWN_KEY:
        message += f" (known: {', '.join(known)})"
    path = ["each key" if step == "[key]" else str(step) for step in first["loc"]]
    return " ".join(": ".join([*path, message]).split())


def _no_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be empty")
    return text


def _address(text: str) -> str:
    parts = _split(text)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise PydanticCustomError("address", "must be an address such as http://127.0.0.1:8080/v1")
    if "@" in parts.netloc:
        raise PydanticCustomError(
            "credentials", "must hold no user name or password; use api_key or headers"
        )
    return text


def _split(text: str) -> SplitResult | None:
    """The parts of an address; None if its host or port is invalid."""
    try:
        parts = urlsplit(text)
        return None if parts.port == 0 else parts
    except ValueError:
        return None


def _tool_name(text: str) -> str:
    if not TOOL_NAME.fullmatch(text):
        raise PydanticCustomError("tool_name", "must be 1 to 64 of A-Z a-z 0-9 _ -")
    return text


def _server_name(text: str) -> str:
    if not SERVER_NAME.fullmatch(text):
        raise PydanticCustomError("server_name", "must be 1 to 32 of A-Z a-z 0-9 _ -")
    return text


def _tool_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise PydanticCustomError("header", "must be names and values that HTTP allows")
        if name.lower() in _OWN_HEADERS or name.lower().startswith("webhook-"):
            raise PydanticCustomError("own_header", "must not name what each call sets itself")
    return headers


def _mcp_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    if any(name.lower() in _MCP_HEADERS or name.lower().startswith("mcp-") for name in headers):
        raise PydanticCustomError("own_header", "must not name what each call sets itself")
    return _tool_headers(headers)


def empty_for_null(value: Any) -> Any:
    """YAML gives null for a key without a value."""
    return {} if value is None else value


_HIDE = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

Text = Annotated[str, AfterValidator(_no_blank)]
Address = Annotated[str, AfterValidator(_address)]
Seconds = Annotated[float, Field(gt=0)]
Price = Annotated[float, Field(ge=0)]
"""Per million tokens."""
HeaderValue = Annotated[
    str, Field(strict=False, coerce_numbers_to_str=True), AfterValidator(_no_blank)
]
NameOfTool = Annotated[str, AfterValidator(_tool_name)]
Headers = Annotated[Mapping[Text, HeaderValue], BeforeValidator(empty_for_null)]
Options = Annotated[Mapping[str, Any], BeforeValidator(empty_for_null)]


@dataclass(frozen=True, slots=True, config=_HIDE)
class ModelSpec:
    """One entry of a model catalogue, resolved. None: the preset's value.

    Raises pydantic.ValidationError for a value of another type or out of range.
    """

    name: Text
    """The name that users choose."""
    provider: Text
    """The name of a preset."""
    model: Text
    """The provider's own name of the model."""
    api: Text | None = None
    """A dialect in place of the preset's."""
    base_url: Address | None = None
    api_key: Text | None = field(default=None, repr=False)
    headers: Headers = field(default_factory=dict, repr=False)
    continuation: Rung | None = None
    """The best rung that this model supports."""
    stall_seconds: Seconds | None = None
    """The longest wait for a delta."""
    fallback: list[Text] = field(default_factory=list)
    """Other entries, which answer in this order where this model cannot."""
    tools: list[NameOfTool] | None = None
    """The tools of the server that its answers may use; None: all."""
    context_tokens: Annotated[int, Field(ge=1)] | None = None
    input_price: Price | None = None
    output_price: Price | None = None
    options: Options = field(default_factory=dict, repr=False)
    """Options of one provider: `background: true` of OpenAI Responses, `tokens_per_second` of the
    demo model, ... The dialect's module lists them.
    """


@dataclass(frozen=True, slots=True, config=_HIDE)
class Preset:
    """A provider: its differences to others with the same dialect.

    `base_url` may contain `{model}`.
    """

    name: Text
    api: Text
    """The dialect."""
    base_url: Address | None
    """None: every user of this provider has an own address."""
    key_variable: Text | None = None
    """The usual environment variable of the key; None: the server needs no key."""
    auth: Auth = "bearer"
    headers: Headers = field(default_factory=dict)
    continuation: Rung = "turn"
    local: bool = False
    """A server run by its users: offered only while it answers."""
    stall_seconds: Seconds = 90.0
    quirks: Options = field(default_factory=dict)
    """Deviations, under the names in the dialect's module."""


@dataclass(frozen=True, slots=True, config=_HIDE)
class ToolSpec:
    """An HTTP tool of the catalogue: what a service of the application does for a model.

    Its schema and the form of its secret are checked where it is called, in the worker.
    """

    name: NameOfTool
    url: Address = field(repr=False)
    description: Text
    """For the model."""
    parameters: Mapping[str, Any]
    """The JSON Schema of its arguments."""
    secret: Text = field(repr=False)
    """Signs each call: `whsec_` and base64, as in Standard Webhooks."""
    title: Text | None = None
    """For people."""
    repeatable: bool = False
    """Two runs of one call, even at the same time, act like one."""
    approve: bool = False
    """A person must allow each call."""
    seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    """The longest run; None: TOOL_SECONDS."""
    headers: Annotated[Headers, AfterValidator(_tool_headers)] = field(
        default_factory=dict, repr=False
    )


@dataclass(frozen=True, slots=True, config=_HIDE)
class ClientToolSpec:
    """A tool of the catalogue that front ends execute. Its schema is checked in the worker."""

    name: NameOfTool
    client: Literal[True]
    """What makes it one."""
    description: Text
    parameters: Mapping[str, Any]
    title: Text | None = None


def _names(value: Any) -> Any:
    if not isinstance(value, bool | list):
        raise PydanticCustomError("names", "must be true, false or a list of names")
    return value


Names = Annotated[bool | list[Text], BeforeValidator(_names)]
"""Of a server's tools: all, none, or these."""


@dataclass(frozen=True, slots=True, config=_HIDE)
class McpSpec:
    """An MCP server of the catalogue, and what its tools may do.

    What a server reports about its own tools (`readOnlyHint`, `idempotentHint`) counts for nothing:
    a server that lies could free itself of approval, or have a call repeated.
    """

    name: Annotated[str, AfterValidator(_server_name)]
    url: Address | None = field(default=None, repr=False)
    """Where it speaks streamable HTTP."""
    headers: Annotated[Headers, AfterValidator(_mcp_headers)] = field(
        default_factory=dict, repr=False
    )
    command: Text | None = None
    """Starts it as a process that speaks over stdin and stdout."""
    args: list[str] = field(default_factory=list, repr=False)
    env: Annotated[Mapping[Text, str], BeforeValidator(empty_for_null)] = field(
        default_factory=dict, repr=False
    )
    """Variables of the process, besides the path and the like."""
    tools: list[Text] | None = None
    """The server's own names of the tools that are used; None: all."""
    approve: Names = True
    """The tools whose calls a person must allow."""
    repeatable: Names = False
    """The tools of which two runs of one call, even at the same time, act like one."""
    seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    """The longest run; None: TOOL_SECONDS."""
    identity: bool = False
    """The server gets the ids of the user, of the conversation and of the answer."""

    @model_validator(mode="after")
    def _is_consistent(self) -> "McpSpec":
        if (self.url is None) == (self.command is None):
            raise PydanticCustomError("place", "must have either url or command")
        if self.url is None and self.headers:
            raise PydanticCustomError("place", "headers: are for servers with a url")
        if self.command is None and (self.args or self.env):
            raise PydanticCustomError("place", "args, env: are for servers with a command")
        for key, names in (("approve", self.approve), ("repeatable", self.repeatable)):
            if isinstance(names, list) and self.tools is None:
                # Otherwise a tool that the server adds tomorrow would be free of approval.
                raise PydanticCustomError("names", f"{key}: a list needs the list tools")
            if isinstance(names, list) and not set(names) <= set(self.tools or ()):
                raise PydanticCustomError("names", f"{key}: must name tools of the list tools")
        return self

    @property
    def prefix(self) -> str:
        """How the names of its tools begin."""
        return f"{self.name}_"

    def needs_approval(self, tool: str) -> bool:
        """Whether a person must allow calls of this tool (the server's own name)."""
        return self.approve if isinstance(self.approve, bool) else tool in self.approve

    def may_repeat(self, tool: str) -> bool:
        """Whether two runs of one call of this tool act like one."""
        return self.repeatable if isinstance(self.repeatable, bool) else tool in self.repeatable
