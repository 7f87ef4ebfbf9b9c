"""Pure: what a body says about tools, in the form of `models/tool_choices.py`.

    tools:       {"name": {"description"?, "parameters"}}, or a list of such objects with a `name`
    activeTools: names of tools of the server
    toolChoice:  "auto", "none", "required", or {"type": "tool", "toolName": "name"}

assistant-ui sends the first form; the other names are those of the AI SDK.
"""

from collections.abc import Mapping
from typing import Any, Final

WORDS: Final[Mapping[str, str]] = {"use": "activeTools", "choice": "toolChoice", "own": "tools"}
"""The names of these fields in a body, by ours."""


def choices_in(tools: Any, active: Any, choice: Any) -> dict[str, Any] | None:
    """The value, not checked yet; None: the body says nothing."""
    found: dict[str, Any] = {}
    if tools:
        found["own"] = [_own(tool) for tool in _listed(tools)]
    if active is not None:
        found["use"] = active
    if choice is not None:
        found["choice"] = _choice(choice)
    return found or None


def _listed(tools: Any) -> list[Any]:
    if isinstance(tools, list):
        return tools
    return [
        {**tool, "name": name} if isinstance(tool, dict) else tool for name, tool in tools.items()
    ]


def _own(tool: Any) -> Any:
    if not isinstance(tool, dict):
        return tool
    return {
        "name": tool.get("name"),
        "description": tool.get("description") or "",
        "parameters": tool.get("parameters", tool.get("inputSchema")),
        "runs_at": "client",
    }


def _choice(choice: Any) -> Any:
    """The choice of one tool in our form; any other value is checked as it is."""
    is_named = isinstance(choice, dict) and choice.get("type") == "tool"
    return {"name": choice.get("toolName")} if is_named else choice
