"""Pure: what a request says about the tools of its answer, as `messages.tools` holds it.

    {"use": ["add"], "all_of_server": false, "choice": {"name": "add"}, "own": [...],
     "unattended": true, "caller_approves": {"always": ["add"], "never": []}, "max_calls": 5}

Guarantees: a checked value can be stored, and read again as the same object. A stored value that
cannot be read (damaged, or of a later version) allows no tool.

Why it works this way: each dialect of clients has its own form for tools, and turns it into this
one. So the worker knows one form, and an answer that is made again simply takes it over.

Rejected: the request's own form in the row (the worker would have to know all dialects); names of
the server's tools checked here (only workers know them).
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from tokenwire.config.terms import ToolTerms
from tokenwire.protocol.states import TOOL_NAME

MAX_NAMES = 256
"""Names in one list."""
ChoiceMode = Literal["auto", "none", "required"]
ToolName = Annotated[str, StringConstraints(pattern=rf"\A{TOOL_NAME.pattern}\z")]
ToolNames = Annotated[list[ToolName], Field(max_length=MAX_NAMES)]


class _Value(BaseModel):
    """Strict as JSON; a refusal does not show the value."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class NamedTool(_Value):
    """The choice of one tool, which the model must call."""

    name: ToolName


class OwnTool(_Value):
    """A tool that the request brings, for this answer alone. `runs_at`: `client` gives the result
    to the waiting answer; `caller` gets the call as the end of the answer.
    """

    name: ToolName
    description: str = ""
    parameters: dict[str, Any]
    """JSON Schema of the arguments, of the type `object`."""
    runs_at: Literal["client", "caller"]


class CallerApproval(_Value):
    """The program that asks allows calls: the answer ends at them. `always`: tools whose calls ask
    it, besides those that need an approval by their own rule (True: all but `never`). `never`: it
    is not asked about these; a call that needs an approval is denied.
    """

    always: bool | ToolNames = False
    never: ToolNames = Field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """All tools that are named."""
        return [*(() if isinstance(self.always, bool) else self.always), *self.never]

    def wants(self, name: str) -> bool:
        """Whether the program asks for an approval of this tool's calls by itself."""
        if isinstance(self.always, bool):
            return self.always and name not in self.never
        return name in self.always


class ToolChoices(_Value):
    """What one request says. `use`: names of the server's tools; None: all that are allowed, if the
    conversation is listed or `all_of_server` wants them. `choice`: for the first turn.
    `unattended`: nobody can decide about calls. `caller_approves`: the program that asks does.
    `max_calls`: so many calls of the server's tools, those that fail included; the others fail.
    """

    use: ToolNames | None = None
    all_of_server: bool = False
    choice: ChoiceMode | NamedTool | None = None
    own: list[OwnTool] = Field(default_factory=list)
    unattended: bool = False
    caller_approves: CallerApproval | None = None
    max_calls: Annotated[int, Field(ge=0)] | None = None

    @property
    def tool_choice(self) -> str | None:
        """The choice as a provider's request has it: a mode, or the name of a tool."""
        return self.choice.name if isinstance(self.choice, NamedTool) else self.choice

    def needs_approval(self, name: str) -> bool:
        """Whether the request wants an approval of this tool's calls, whatever the tool's rule."""
        return self.caller_approves is not None and self.caller_approves.wants(name)

    def decider(self, name: str) -> Literal["nobody", "caller", "person"]:
        """Who can allow a call of this tool."""
        if self.caller_approves is not None and name not in self.caller_approves.never:
            return "caller"
        return "nobody" if self.unattended or self.caller_approves is not None else "person"

    def stored(self) -> dict[str, Any] | None:
        """As the row holds it; None: it says nothing."""
        return self.model_dump(exclude_defaults=True) or None


NO_CHOICES = ToolChoices()
NOTHING_ALLOWED = ToolChoices(use=[])


class BadTools(ValueError):
    """The value cannot be used. `place`: the path of the mistake in it."""

    def __init__(self, place: Iterable[str | int], reason: str) -> None:
        super().__init__(reason)
        self.place, self.reason = tuple(place), reason


def checked(value: Mapping[str, Any], terms: ToolTerms) -> ToolChoices:
    """The value of a request. Raises BadTools.

    Whether the schemas can be used, and whether the server has the tools of `use`, others find out.
    """
    try:
        found = ToolChoices.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise BadTools(first["loc"], first["msg"]) from None
    for mistake in _mistakes(found, terms):
        raise mistake
    require_free_names(found, found.use or ())
    return found


def read(value: Mapping[str, Any] | None) -> ToolChoices:
    """The value of a row."""
    if value is None:
        return NO_CHOICES
    try:
        return ToolChoices.model_validate(value)
    except ValidationError:
        return NOTHING_ALLOWED


def usable(
    tools: Mapping[str, bool],
    lists: Iterable[Sequence[str] | None],
    choices: ToolChoices,
    *,
    listed: bool,
) -> set[str]:
    """The names of the server's tools that an answer may use. `tools`: all of them; True: a client
    executes the tool. `lists`: names in the catalogue and in the conversation; None: all.

    A program that asks over OpenAI's API (not `listed`) must name the tools of the server that it
    wants. No tool runs at a client there, and none where nobody can decide.
    """
    if not (listed or choices.all_of_server or choices.use is not None):
        return set()
    may_wait = listed and not choices.unattended
    names = {name for name, at_client in tools.items() if may_wait or not at_client}
    for only in (*lists, choices.use):
        names &= names if only is None else set(only)
    return names


def require_free_names(choices: ToolChoices, names: Collection[str]) -> None:
    """No tool of the request has one of these names, of tools of the server. Raises BadTools."""
    for number, own in enumerate(choices.own):
        if own.name in names:
            raise BadTools(("own", number, "name"), f"a tool of the server is called {own.name}")


def _mistakes(choices: ToolChoices, terms: ToolTerms) -> Iterator[BadTools]:
    yield from _of_own(choices, terms)
    chosen = choices.tool_choice
    if isinstance(choices.choice, NamedTool):
        if chosen in get_args(ChoiceMode):
            yield BadTools(("choice", "name"), "a tool of this name cannot be chosen")
        elif choices.use is not None and chosen not in {*choices.use, *_names(choices)}:
            yield BadTools(("choice", "name"), f"{chosen} is not among the tools")
    if chosen == "required" and choices.use == [] and not choices.own:
        yield BadTools(("choice",), "there is no tool to call")


def _of_own(choices: ToolChoices, terms: ToolTerms) -> Iterator[BadTools]:
    if len(choices.own) > terms.max_request_tools:
        yield BadTools(("own",), f"more than {terms.max_request_tools} tools")
    if len(json.dumps([each.model_dump() for each in choices.own])) > terms.max_request_tools_bytes:
        yield BadTools(("own",), f"longer than {terms.max_request_tools_bytes} bytes as JSON")
    names = _names(choices)
    for number, own in enumerate(choices.own):
        if own.name in names[:number]:
            yield BadTools(("own", number, "name"), f"two tools are called {own.name}")
        if own.parameters.get("type") != "object":
            yield BadTools(("own", number, "parameters"), "the type must be object")


def _names(choices: ToolChoices) -> list[str]:
    return [each.name for each in choices.own]
