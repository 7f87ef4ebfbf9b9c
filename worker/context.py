"""Pure: the rows of a conversation as the messages that a provider is sent."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tokenwire.models.tables import Message as Row
from tokenwire.providers.base import REASONING, HistoryMessage, Request, TextDelta
from tokenwire.providers.collected import Collected
from tokenwire.providers.content import json_text
from tokenwire.providers.gemini import SIGNATURE
from tokenwire.providers.history import CallPart, Kept, KeptPart, Part, ReasoningPart

_OPTIONS = frozenset({"temperature", "max_tokens", "reasoning_effort", "stop"})


def messages(
    rows: Iterable[Row], instructions: str | None, model: str | None = None
) -> list[HistoryMessage]:
    """In order, without what is empty: a failed or withdrawn answer must not poison the calls that come after it.

    What an answer of `model` held beside its text goes back to that model; no other one would understand it.
    """
    system = [HistoryMessage("system", instructions)] if instructions else []
    return system + [message for row in rows if (message := _message(row, model)) is not None]


def resuming(request: Request, text: str, kept: Iterable[Mapping[str, Any]]) -> Request:
    """The request that resumes a turn that its provider has paused: the turn goes back whole, as the last message."""
    return replace(
        request,
        messages=[*request.messages, HistoryMessage("assistant", _parts(text, kept))],
        continuation=None,
    )


def options(row: Row) -> dict[str, Any]:
    """What the answer is to be like, as arguments of a provider's `Request`."""
    return {name: value for name, value in (row.options or {}).items() if name in _OPTIONS}


def _message(row: Row, model: str | None) -> HistoryMessage | None:
    if row.role == "user" and row.content:
        return HistoryMessage("user", row.content)
    if row.role == "system" and row.content:
        return HistoryMessage("system", row.content)
    kept = row.kept if row.kept and row.model == model else ()
    if row.role == "assistant" and (row.content or kept):
        return HistoryMessage("assistant", [*_parts(row.content, kept), *_answered_calls(row)])
    return None


# --- rows before parts: goes once every row has them ---


def _parts(text: str, entries: Iterable[Mapping[str, Any]]) -> list[Part]:
    """Text, and what was kept beside it at its place: so rows hold an answer so far."""
    collected = Collected()
    given = 0
    for entry in entries:
        at = max(given, entry["at"])
        collected.add(TextDelta(text[given:at]))
        given = at
        collected.append(_part(entry["dialect"], entry["kind"], entry["value"]))
    collected.add(TextDelta(text[given:]))
    return list(collected.parts)


def _part(dialect: str, kind: str, value: Mapping[str, Any]) -> Part:
    if kind != REASONING:
        return KeptPart(dialect, kind, value)
    if value.keys() == {SIGNATURE}:  # Gemini's, of the text before it
        return KeptPart(dialect, SIGNATURE, value)
    return ReasoningPart("", Kept(dialect, kind, value))


def _answered_calls(row: Row) -> list[CallPart]:
    """Calls without a result are left out: nothing carries them out yet."""
    return [
        CallPart(call["id"], call["name"], _written(call["arguments"]))
        for call in row.tool_calls or ()
        if "result" in call
    ]


def _written(arguments: Mapping[str, Any] | str) -> str:
    return arguments if isinstance(arguments, str) else json_text(arguments)
