"""Pure: an answer with its parts (`protocol/fold.py`) as rows, and rows as an answer.

Guarantees: the rows of an answer give that answer again, at every point of its life: parts,
fields, texts and kept values. Numbers of parts never shift. Text survives a damaged layout: text
that the layout does not cover becomes one more part at the end.

How it is stored:
- An ended answer: `content` and `reasoning` hold the whole texts, `parts` the layout with their
  lengths. NULL stands for the layout of nearly all answers: reasoning, then text.
- An unfinished answer: `content` and `reasoning` hold only the texts that still grow. The columns
  `open_text` and `open_reasoning` give the numbers of these two parts. All other parts are rows
  of `unfinished_parts`.

Why it works this way: a checkpoint writes `content` each second. If `content` held finished parts,
each checkpoint would write them again, and cost more with each part.

Rejected: a layout over whole texts (its checkpoints grow); parts in one JSON column (SQLite writes
the whole record at every change, PostgreSQL the whole value); parts as rows for ever (twice the
rows of plain chats, and no `content` for programs that read the table by SQL).

Kept values are stored as they are given. The caller has removed the text that the part holds
(`protocol/kept.py`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, Protocol

from tokenwire.protocol.fold import Answer, Part, from_view
from tokenwire.protocol.text import utf16_length

_DROPPED: Final = {"dropped": True}


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A row of `unfinished_parts`."""

    number: int
    type: str
    text: str | None
    value: Mapping[str, Any] | None
    kept: Mapping[str, Any] | None

    def text_only(self) -> "StoredPart":
        """The part with its text alone, for a database that refuses the rest."""
        if not (self.value or self.kept):
            return self
        at = (self.value or {}).get("at")  # without `at`, the part would end the text around it
        return replace(
            self, value=_DROPPED | ({"at": at} if isinstance(at, int) else {}), kept=None
        )


class Whole(NamedTuple):
    """The columns of a row that holds a whole answer."""

    content: str
    reasoning: str
    parts: list[dict[str, Any]] | None
    parts_kept: list[dict[str, Any]] | None


class _WholeRow(Protocol):
    """The columns of `messages` that are read here."""

    id: str
    status: str
    attempt: int
    model: str | None
    finish_reason: str | None
    error: dict[str, Any] | None
    usage: dict[str, Any] | None
    seams: list[int] | None
    cancel_by: str | None
    content: str
    reasoning: str
    parts: list[Any] | None
    parts_kept: list[dict[str, Any]] | None
    tool_calls: list[dict[str, Any]] | None


# --- to rows ------------------------------------------------------------------------------------


def whole(answer: Answer) -> Whole:
    """The answer as the columns of an ended row. Takes time in its whole size: call it once."""
    content, reasoning = answer.content, answer.reasoning
    layout = answer.layout()
    kept = [{"part": n, **part.kept} for n, part in enumerate(answer.parts) if part.kept]
    is_default = layout == _default_layout(content, reasoning)
    return Whole(content, reasoning, None if is_default else layout, kept or None)


def stored(answer: Answer, number: int) -> StoredPart:
    """A part of an unfinished answer, as a row of `unfinished_parts`."""
    part = answer.parts[number]
    is_open = number in (answer.open_text, answer.open_reasoning)
    has_text = part.type in ("text", "reasoning", "tool_call") and not is_open
    text = part.text if has_text else None
    return StoredPart(number, part.type, text, dict(part.fields) or None, part.kept)


def open_texts(answer: Answer) -> tuple[str, str]:
    """The values of `content` and `reasoning` of an unfinished row."""
    text, reasoning = (
        "" if number is None else answer.parts[number].text
        for number in (answer.open_text, answer.open_reasoning)
    )
    return text, reasoning


# --- from rows ----------------------------------------------------------------------------------


def answer_of(row: _WholeRow) -> Answer:
    """The answer that a whole row holds."""
    answer = shown_answer(row)
    for entry in row.parts_kept or ():
        if entry["part"] < len(answer.parts):
            kept = {name: value for name, value in entry.items() if name != "part"}
            answer.parts[entry["part"]].kept = kept
    return answer


def layout_of(row: _WholeRow) -> list[dict[str, Any]]:
    """The layout of a whole row, for readers. Kept values are not even read."""
    if row.parts is None and not row.tool_calls:  # nearly all: their texts are not copied
        return _default_layout(row.content, row.reasoning)
    return shown_answer(row).layout()


def shown_answer(row: _WholeRow) -> Answer:
    """The answer that a whole row shows to readers: without what is kept for its provider."""
    answer = from_view(
        {
            "id": row.id,
            "status": row.status,
            "attempt": row.attempt,
            "model": row.model,
            "finish_reason": row.finish_reason,
            "content": row.content,
            "reasoning": row.reasoning,
            "parts": row.parts,
            "error": row.error,
            "by": row.cancel_by,
            "usage": row.usage,
            "seams": row.seams,
        }
    )
    for call in (row.tool_calls or ()) if row.parts is None else ():
        answer.add(_call(call))
    return answer


def assembled(
    count: int,
    open_text: tuple[int | None, str],
    open_reasoning: tuple[int | None, str],
    rows: Iterable[StoredPart],
) -> Answer:
    """The answer of an unfinished row and its rows of `unfinished_parts`.

    `count`: the number of parts. `open_text`, `open_reasoning`: number and text of the part that
    still grows. A part whose row is missing is `unknown`.
    """
    known = {row.number: row for row in rows}
    growing = {"text": open_text, "reasoning": open_reasoning}
    first_open = min([n for n, _ in growing.values() if n is not None], default=count)
    answer, used, units = Answer(""), set[str](), 0
    for number in range(count):
        row = known.get(number)
        kind = next((kind for kind, (n, _) in growing.items() if n == number), None)
        if kind is not None:
            used.add(kind)
            part = Part(kind, _fields(row), text=growing[kind][1])
        elif row is not None:
            part = Part(row.type, _fields(row), text=row.text or "")
        else:  # `at` keeps the open text open
            inside = {"at": units} if number > first_open else {}
            part = Part("unknown", _DROPPED | inside)
        part.kept = None if row is None else row.kept
        answer.add(part)
        units += part.units if part.type == "text" else 0
    for kind in ("reasoning", "text"):
        if kind not in used and (text := growing[kind][1]):
            answer.add(Part(kind, {}, text=text))
    return answer


def _fields(row: StoredPart | None) -> Mapping[str, Any]:
    return (row.value if row is not None else None) or {}


def _default_layout(content: str, reasoning: str) -> list[dict[str, Any]]:
    texts = (("reasoning", reasoning), ("text", content))
    return [{"type": kind, "length": utf16_length(text)} for kind, text in texts if text]


_STATES: Final = {"pending": "proposed", "error": "invalid", "ok": "done"}


def _call(call: Mapping[str, Any]) -> Part:
    """A call as the previous version stored it."""
    arguments = call["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    state = _STATES.get(call["status"], "failed")
    return Part("tool_call", {"id": call["id"], "name": call["name"], "state": state}, text=text)
