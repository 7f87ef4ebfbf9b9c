"""Pure: the rows of a conversation as the messages that a provider is sent."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from tokenwire.models.tables import Message as Row
from tokenwire.providers.base import HistoryMessage, Request, ToolUse
from tokenwire.worker.resume.kept import restored

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
        messages=[*request.messages, HistoryMessage("assistant", text, kept=restored(kept))],
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
    kept = restored(row.kept) if row.kept and row.model == model else ()
    if row.role == "assistant" and (row.content or kept):
        return HistoryMessage("assistant", row.content, tool_calls=_answered_calls(row), kept=kept)
    return None


def _answered_calls(row: Row) -> tuple[ToolUse, ...]:
    """Calls without a result are left out: providers refuse a history in which a call was never answered."""
    return tuple(
        ToolUse(call["id"], call["name"], call["arguments"])
        for call in row.tool_calls or ()
        if "result" in call
    )
