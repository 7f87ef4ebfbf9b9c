"""What a request of an OpenAI client says about tools, and how a Response repeats it.

A tool of the type `function` is executed by the program that asks. `mcp` with the label
`tokenwire` names tools of the server, which workers execute. It may want more approvals than their
own rules, never fewer: a call that needs one and that nobody may ask about is denied. All others
are refused by name: what they do would be missing in the answer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenwire.config.terms import ToolTerms
from tokenwire.models.tables import Message
from tokenwire.models.tool_choices import (
    NO_CHOICES,
    BadTools,
    CallerApproval,
    NamedTool,
    ToolChoices,
    checked,
    read,
    require_free_names,
)
from tokenwire.protocol.values import present
from tokenwire.web.openai.errors import OpenAIProblem, unsupported
from tokenwire.web.openai.objects import SERVER_LABEL

_FUNCTION = frozenset({"type", "function", "name", "description", "parameters", "strict"})
_SERVER = frozenset(
    {"type", "server_label", "server_description", "allowed_tools", "require_approval"}
)
_NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}}
"""The schema of a function without parameters."""
_MODES = ("auto", "none", "required")


@dataclass(frozen=True, slots=True)
class _Offer:
    """The tools of a request. `own`: functions, with their places in the request. `server`: whether
    tools of the server are wanted; `use`: only these; `approval`: which calls the program allows
    (None: nobody is asked).
    """

    own: Sequence[tuple[int, Mapping[str, Any]]] = ()
    server: bool = False
    use: Sequence[str] | None = None
    approval: Mapping[str, Any] | None = None

    @property
    def names(self) -> set[str]:
        """The names of the functions."""
        return {str(function["name"]) for _, function in self.own}


def tool_choices(
    tools: Sequence[Mapping[str, Any]] | None,
    choice: Any,
    terms: ToolTerms,
    *,
    attended: bool = False,
    max_calls: int | None = None,
) -> ToolChoices:
    """The checked form of `tools` and `tool_choice`. `attended`: a later request can allow calls.
    `max_calls`: of tools of the server. Raises OpenAIProblem (400).
    """
    if tools and len(tools) > terms.max_request_tools + 1:  # one stands for the server's
        raise _invalid("tools", f"There are more than {terms.max_request_tools} tools.")
    offer = _offer(tools or (), attended=attended)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        held = choice.get("allowed_tools", choice)
        offer, choice = _narrowed(offer, held), held.get("mode", "auto")
    chosen = _choice(choice)
    if not offer.own and not offer.server:
        if chosen not in (None, "auto", "none"):
            raise _invalid("tool_choice", "There is no tool to choose.")
        return NO_CHOICES
    value = present(
        own=[function for _, function in offer.own],
        use=offer.use,
        all_of_server=offer.server and offer.use is None,
        choice=chosen,
        unattended=offer.server and offer.approval is None,
        caller_approves=offer.approval,
        max_calls=max_calls if offer.server else None,
    )
    try:
        return checked(value, terms)
    except BadTools as error:
        raise _invalid(_param(error, offer), error.reason) from None


def require_own_names(choices: ToolChoices, names: Collection[str]) -> None:
    """No function has one of these names, of tools of the server. Raises OpenAIProblem (400)."""
    try:
        require_free_names(choices, names)
    except BadTools as error:
        raise _invalid("tools", error.reason) from None


def require_offered(choices: ToolChoices, names: Collection[str]) -> None:
    """The request wants all these tools of the server. Raises OpenAIProblem (400)."""
    for name in names:
        if not uses_server(choices) or (choices.use is not None and name not in choices.use):
            raise _invalid("tools", f"A call of {name} is allowed, and that is not among these.")


def uses_server(choices: ToolChoices) -> bool:
    """Whether the request wants tools of the server."""
    return choices.all_of_server or choices.use is not None


def _offer(tools: Sequence[Mapping[str, Any]], *, attended: bool) -> _Offer:
    offer = _Offer()
    for number, tool in enumerate(tools):
        place = f"tools[{number}]"
        match tool.get("type"):
            case "function":
                offer = replace(offer, own=[*offer.own, (number, _function(tool, place))])
            case "mcp" if not offer.server:
                offer = replace(offer, server=True, use=_used(tool, place))
                offer = replace(offer, approval=_approval(tool, offer.use, place, attended))
            case kind:
                raise unsupported(
                    place, f"Tools of type {str(kind)[:80]!r} are not supported here."
                )
    return offer


def _function(tool: Mapping[str, Any], place: str) -> dict[str, Any]:
    """A function in either spelling: flat, or under `function`."""
    held = tool.get("function", tool)
    if not isinstance(held, dict):
        raise _invalid(f"{place}.function", "This is an object.")
    _require_known(tool, _FUNCTION, place)
    _require_known(held, _FUNCTION, place)
    if held.get("strict") not in (None, True, False):
        raise _invalid(f"{place}.strict", "This is true or false.")
    description, parameters = held.get("description"), held.get("parameters")
    return {
        "name": held.get("name"),
        "description": "" if description is None else description,
        "parameters": dict(_NOTHING) if parameters in (None, {}) else parameters,
        "runs_at": "caller",
    }


def _used(tool: Mapping[str, Any], place: str) -> Sequence[str] | None:
    """The names of tools of the server; None: all."""
    _require_ours(tool, place)
    _require_known(tool, _SERVER, place)
    names = tool.get("allowed_tools")
    return _names(names, f"{place}.allowed_tools")


def _approval(
    tool: Mapping[str, Any], use: Sequence[str] | None, place: str, attended: bool
) -> Mapping[str, Any] | None:
    """Which calls the program allows itself; None: nobody is asked."""
    wanted, place = tool.get("require_approval"), f"{place}.require_approval"
    if wanted == "never" or (wanted is None and not attended):
        return None
    if not attended:
        raise unsupported(place, "Only a stored response can ask for an approval.")
    if wanted is None:
        return {}
    if wanted == "always":
        return {"always": True}
    if not isinstance(wanted, dict):
        raise _invalid(place, "This is always, never, or an object with both.")
    _require_known(wanted, {"always", "never"}, place)
    always, never = (_names(wanted.get(name), f"{place}.{name}") for name in ("always", "never"))
    for name in (*(always or ()), *(never or ())):
        if use is not None and name not in use:
            raise _invalid(place, f"{str(name)[:80]} is not among the tools.")
    if both := [name for name in always or () if name in (never or ())]:
        raise _invalid(place, f"{str(both[0])[:80]} is in both lists.")
    if always is None and never is not None:  # who frees some tools wants the others to ask
        return {"always": True, "never": never}
    return present(always=always, never=never)


def _names(held: Any, place: str) -> list[str] | None:
    """A list of names, also under `tool_names`."""
    if isinstance(held, dict):
        _require_known(held, {"tool_names"}, place)
        held = held.get("tool_names")
    if held is not None and not isinstance(held, list):
        raise _invalid(place, "This is a list of names.")
    return held


def _require_ours(tool: Mapping[str, Any], place: str) -> None:
    if tool.get("server_label") != SERVER_LABEL:
        raise unsupported(f"{place}.server_label", f"The only server here is {SERVER_LABEL}.")


def _require_known(value: Mapping[str, Any], known: Collection[str], place: str) -> None:
    for name, held in value.items():
        if name not in known and held:
            raise unsupported(f"{place}.{name[:80]}", f"{name[:80]} is not supported here.")


# --- the choice -----------------------------------------------------------------------------------


def _choice(choice: Any) -> str | dict[str, Any] | None:
    if choice is None or (isinstance(choice, str) and choice in _MODES):
        return choice
    if not isinstance(choice, dict):
        raise _invalid("tool_choice", "This is auto, none, required, or names a tool.")
    name, _ = _named(choice, "tool_choice")
    if name is None:
        raise _invalid("tool_choice", "The choice of a tool has its name.")
    return {"name": name}


def _narrowed(offer: _Offer, held: Any) -> _Offer:
    """What `allowed_tools` leaves of the tools."""
    tools = held.get("tools") if isinstance(held, dict) else None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise _invalid("tool_choice", "allowed_tools has a list of tools.")
    own, use, server, whole = set[str](), set[str](), False, False
    functions, used = offer.names, None if offer.use is None else {*offer.use}
    for number, tool in enumerate(tools):
        name, is_own = _named(tool, f"tool_choice.tools[{number}]")
        known = functions if is_own else used
        if (is_own or offer.server) and (name is None or known is None or name in known):
            server, whole = server or not is_own, whole or (not is_own and name is None)
            (own if is_own else use).update(() if name is None else (name,))
        else:
            raise _invalid(f"tool_choice.tools[{number}]", "This is not among the tools.")
    left = [one for one in offer.own if one[1]["name"] in own]
    named = offer.use if whole else sorted(use)
    return _Offer(left, server, named if server else None, offer.approval if server else None)


def _named(tool: Mapping[str, Any], place: str) -> tuple[str | None, bool]:
    """The name of a chosen tool (None: all of the server), and whether it is a function."""
    is_own = tool.get("type") == "function"
    if not is_own and tool.get("type") != "mcp":
        raise unsupported(place, f"{str(tool.get('type'))[:80]!r} cannot be chosen here.")
    if not is_own:
        _require_ours(tool, place)
    held = tool.get("function", tool)
    name = held.get("name") if isinstance(held, dict) else None
    if not isinstance(name, str) and (is_own or name is not None):
        raise _invalid(place, "The choice of a function has its name.")
    return name, is_own


def _param(error: BadTools, offer: _Offer) -> str:
    """The place of a mistake in the request."""
    match error.place:
        case ("own", int(index), *rest):
            return ".".join([f"tools[{offer.own[index][0]}]", *map(str, rest)])
        case ("choice", *_):
            return "tool_choice"
        case ("max_calls", *_):
            return "max_tool_calls"
    return "tools"


def _invalid(param: str, message: str) -> OpenAIProblem:
    return OpenAIProblem(400, "invalid_value", f"{param}: {message}", param)


# --- as a Response repeats it ---------------------------------------------------------------------


def shown_tools(choices: ToolChoices) -> list[dict[str, Any]]:
    """`tools` of a Response."""
    functions = [
        {
            "type": "function",
            "name": own.name,
            "description": own.description or None,
            "parameters": own.parameters,
            "strict": False,
        }
        for own in choices.own
    ]
    if not uses_server(choices):
        return functions
    server = {"type": "mcp", "server_label": SERVER_LABEL, "allowed_tools": choices.use}
    return [*functions, {**server, "require_approval": _shown_approval(choices.caller_approves)}]


def _shown_approval(approval: CallerApproval | None) -> str | dict[str, Any] | None:
    if approval is None:
        return "never"
    if approval.always is True and not approval.never:
        return "always"
    lists = {"never": approval.never}
    if not isinstance(approval.always, bool):
        lists["always"] = approval.always
    return {name: {"tool_names": names} for name, names in lists.items() if names} or None


def shown_choice(choices: ToolChoices) -> str | dict[str, Any]:
    """`tool_choice` of a Response."""
    if not isinstance(choices.choice, NamedTool):
        return choices.choice or "auto"
    name = choices.choice.name
    if any(own.name == name for own in choices.own):
        return {"type": "function", "name": name}
    return {"type": "mcp", "server_label": SERVER_LABEL, "name": name}


def functions_of(row: Message) -> frozenset[str] | None:
    """The tools that the program executes which asked for this answer; None: there are no others.

    Calls of an answer that nobody asked for here are none of its tools.
    """
    if row.asked is None:
        return frozenset()
    choices = read(row.tools)
    if not choices.own and not uses_server(choices):
        return None
    return frozenset(own.name for own in choices.own if own.runs_at == "caller")
