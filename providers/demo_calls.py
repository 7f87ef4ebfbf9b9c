"""Pure: what the demo model makes of tools and schemas.

Cues in the last message of the user:

  !tool              a call of the first tool
  !tool name         a call of this tool; each `!tool name` is one of several parallel calls. If
                     there is no tool of a name, nothing is called: the answer says so
  !tool name {...}   the same, with these arguments, which must be JSON
  !tools             a call of every tool, in parallel
  !rounds N          N rounds of calls before the answer, 20 at most
  !misfit            the first document breaks the schema, a repaired one fits
  !misfits           the repaired one breaks it, too

Without a cue it calls a tool whose name stands in the message (`get_weather` also as `get
weather`), and what `tool_choice` demands. Arguments fit the tool's schema, and their texts are
words of the message. After the results it quotes them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenwire.providers.base import InvalidRequest, Request, Tool
from tokenwire.providers.history import (
    REPAIR_BEGINS,
    HistoryMessage,
    HistoryPart,
    ResultPart,
    TextPart,
)
from tokenwire.providers.instances import NoInstance, instance

MAX_ROUNDS = 20
_QUOTED = 500
_TOOL_CUE = re.compile(r"!tool\b(?:[ \t]+([A-Za-z0-9_-]+))?[ \t]*")
_ROUNDS_CUE = re.compile(r"!rounds[ \t]+(\d{1,3})")
_CUES = re.compile(r"!tool\b[^{\n]*\{.*\}|![a-z_]+(?:[ \t]+\d+)?", re.DOTALL)
_WORD = re.compile(r"[^\W\d_][\w'-]*")


@dataclass(frozen=True, slots=True)
class DemoCall:
    """A call: its id, the name of its tool, and its arguments as JSON."""

    id: str
    name: str
    arguments: str


def calls_of(request: Request) -> list[DemoCall]:
    """The calls that the model makes now; none: it writes its answer. Raises InvalidRequest."""
    prompt, since = last_question(request.messages)
    done = _rounds(since)
    wanted = _wanted(request, prompt, done)
    return [
        DemoCall(f"call_{done + 1}_{number + 1}", tool.name, _arguments(tool, given, prompt))
        for number, (tool, given) in enumerate(wanted)
    ]


def text_of_results(messages: Sequence[HistoryMessage]) -> str | None:
    """The answer after calls: it quotes their results. None without results."""
    _, since = last_question(messages)
    results = [part for part in since if isinstance(part, ResultPart)]
    sentences = [
        f"The tool {part.name} {'failed' if part.error else 'returned'}: {part.text[:_QUOTED]}"
        for part in results
    ]
    return "\n\n".join(sentences) if results else None


def text_of_typo(request: Request) -> str | None:
    """The answer to a cue with a tool that there is not, or with arguments that are no JSON: a typo
    calls nothing else.
    """
    prompt, since = last_question(request.messages)
    if any(isinstance(part, ResultPart) for part in since):
        return None
    names = [tool.name for tool in request.tools]
    for cue in _cues(prompt):
        if cue[1] not in names:
            return f"There is no tool {cue[1]}; there are: {', '.join(names) or 'none'}."
        if prompt[cue.end() :].startswith("{") and _object_at(prompt, cue.end()) is None:
            return f"The arguments behind !tool {cue[1]} are no JSON object."
    return None


def document(request: Request) -> str:
    """The answer to a request with a schema, as JSON. Raises InvalidRequest."""
    prompt, since = last_question(request.messages)
    repairs = any(isinstance(part, TextPart) for part in since)
    if prompt.startswith(REPAIR_BEGINS):
        prompt, repairs = _question_before(request.messages), True
    schema = request.schema or {}
    value = _fitting(schema or _ANY, prompt, "the schema of the answer")
    if "!misfits" in prompt or ("!misfit" in prompt and not repairs):
        value = {"misfit": True} if isinstance(value, list) else ["misfit"]
    return json.dumps(value, ensure_ascii=False, indent=2)


def _question_before(messages: Sequence[HistoryMessage]) -> str:
    """The message of the user that led to the document which is to be repaired."""
    asked = [message.text for message in messages if message.role == "user"]
    return next((text for text in reversed(asked) if not text.startswith(REPAIR_BEGINS)), "")


_ANY: Mapping[str, Any] = {"type": "object", "properties": {"answer": {"type": "string"}}}


def last_question(messages: Sequence[HistoryMessage]) -> tuple[str, list[HistoryPart]]:
    """The last message of the user, and the parts behind it."""
    for number in range(len(messages) - 1, -1, -1):
        if messages[number].role == "user":
            behind = [part for message in messages[number + 1 :] for part in message.parts]
            return messages[number].text, behind
    return "", []


def _rounds(parts: Sequence[HistoryPart]) -> int:
    """How many rounds have results: a result that follows something else begins one."""
    before: Sequence[HistoryPart | None] = [None, *parts]
    return sum(
        isinstance(part, ResultPart) and not isinstance(last, ResultPart)
        for last, part in zip(before, parts, strict=False)
    )


def _wanted(request: Request, prompt: str, done: int) -> list[tuple[Tool, str | None]]:
    """The tools to call, each with its given arguments."""
    tools = {tool.name: tool for tool in request.tools}
    choice = request.tool_choice
    if text_of_typo(request) is not None:
        return []
    if choice in tools:
        tools = {choice: tools[choice]}
    cued = _ROUNDS_CUE.search(prompt)
    if not tools or choice == "none" or done >= (min(int(cued[1]), MAX_ROUNDS) if cued else 1):
        return []
    first = [(next(iter(tools.values())), None)]
    if re.search(r"!tools\b", prompt):
        return [(tool, None) for tool in tools.values()]
    if asked := _cued(prompt, tools):
        return asked
    if named := [(tool, None) for tool in tools.values() if _occurs(tool.name, prompt)]:
        return list(named)
    return list(first) if cued or "!tool" in prompt or choice not in (None, "auto") else []


def _cued(prompt: str, tools: Mapping[str, Tool]) -> list[tuple[Tool, str | None]]:
    return [
        (tools[match[1]], _object_at(prompt, match.end()))
        for match in _cues(prompt)
        if match[1] in tools
    ]


def _cues(prompt: str) -> list[re.Match[str]]:
    """The cues that name a tool."""
    return [match for match in _TOOL_CUE.finditer(prompt) if match[1]]


def _object_at(text: str, start: int) -> str | None:
    if text[start : start + 1] != "{":
        return None
    try:
        _, end = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return text[start:end]


def _occurs(name: str, prompt: str) -> bool:
    words = re.escape(name.replace("_", " ").replace("-", " ").lower()).replace(r"\ ", r"[\s_-]+")
    return re.search(rf"(?<!\w){words}(?!\w)", prompt.lower()) is not None


def _arguments(tool: Tool, given: str | None, prompt: str) -> str:
    if given is not None:
        return given
    schema = tool.parameters or {"type": "object"}
    spoken = _occurring(tool.name, prompt)
    return json.dumps(_fitting(schema, spoken, f"the schema of {tool.name}"), ensure_ascii=False)


def _occurring(name: str, prompt: str) -> str:
    """The prompt without the name of the tool, which is no argument."""
    return re.sub(re.escape(name), " ", prompt)


def _fitting(schema: Mapping[str, Any], prompt: str, what: str) -> Any:
    try:
        return instance(schema, _words(prompt))
    except NoInstance as error:
        raise InvalidRequest(f"{what}: {error} (demo)", code="bad_schema", no_run=True) from error


def _words(prompt: str) -> list[str]:
    """Words for texts: names (capitals behind the first word) first, else the last word."""
    words = _WORD.findall(_CUES.sub(" ", prompt))
    names = [word for word in words[1:] if word[0].isupper()]
    return names or words[-1:]
