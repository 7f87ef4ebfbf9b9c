"""Pure: events and rows of before parts, as the fold knows them. It goes when nobody writes them.

Guarantees: what is written with parts passes as it is. Else the upgraded log folds to the text and
reasoning that the old rules give, and a row that comes after a log keeps the order of the log.

Why it works this way: an old row holds text, reasoning and calls, and not their order; the log told
it. So a reader who followed the log keeps what it holds (`have`), and takes from the row what that
goes on with. Without it the order is reasoning, text, calls.

Rejected: a second fold for old events (each encoder would need two forms of everything).
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer, Part, from_view
from tokenwire.protocol.slices import Slices
from tokenwire.protocol.text import pieces, utf16_length

_STATES: Mapping[str, str] = {
    "waiting": "awaiting_approval",
    "ok": "done",
    "error": "failed",
    "denied": "denied",
}
_FOLLOWED = ("status", "attempt", "model", "finish_reason", "error", "usage", "by", "seams")


def upgraded(answer: Answer, event: events.AnyEvent) -> list[events.AnyEvent]:
    """The event in today's form, for who holds `answer`: none where nothing is new."""
    if isinstance(event, events.Piece) and event.part >= 0:  # nearly every event
        return [event]
    match event:
        case events.Chunk(part=-1):
            return [_numbered(answer, event, answer.open_text)]
        case events.Reasoning(part=-1):
            return [_numbered(answer, event, answer.open_reasoning)]
        case events.ToolCall() if event.message_id == answer.id:
            return list(_call(answer, event))
        case events.ToolResult() if event.message_id == answer.id:
            return list(_result(answer, event))
        case events.Source() | events.File() if event.message_id == answer.id:
            return list(_link(answer, event))
        case events.Reset(keep_parts=0) if event.message_id == answer.id:
            return list(_reset(answer, event))
        case events.ToolCall() | events.ToolResult() | events.Source() | events.File():
            return []
        case _:
            return [event]


def answer_of(row: Mapping[str, Any], have: Answer | None = None) -> Answer:
    """The answer of a row in its wire form, for readers who hold `have` of it.

    A row that has not ended and says less than they hold, and nothing else, changes nothing.
    """
    answer = from_view(row)
    if row.get("parts") is not None:
        return answer
    for call in row.get("tool_calls") or ():
        answer.add(_call_part(call))
    if have is None or have.ended or not have.parts:
        return answer
    return _along(have, answer) or answer


# --- events -------------------------------------------------------------------------------------


def _numbered(
    answer: Answer, event: events.Chunk | events.Reasoning, open_part: int | None
) -> events.AnyEvent:
    """A piece of the open part of its type, or of a new one."""
    number = len(answer.parts) if open_part is None else open_part
    return type(event)(event.message_id, event.attempt, event.offset, event.content, number)


def _call(answer: Answer, event: events.ToolCall) -> Iterator[events.AnyEvent]:
    text, state = _input_of(event.arguments), _state_of(event.arguments, event.status)
    number = _number_of(answer, event.tool_call_id)
    if number is None:
        number = len(answer.parts)
        named = {"id": event.tool_call_id, "name": event.name, "state": "streaming"}
        yield _part(answer, event.attempt, number, {"type": "tool_call", **named})
        offset = 0
        for piece in pieces(text, events.MAX_EVENT_TEXT_BYTES):
            yield events.ToolInput(answer.id, event.attempt, offset, piece, number)
            offset += utf16_length(piece)
    elif answer.parts[number].fields.get("state") == state:
        return
    yield _part(answer, event.attempt, number, {"type": "tool_call", "state": state})


def _result(answer: Answer, event: events.ToolResult) -> Iterator[events.AnyEvent]:
    number = _number_of(answer, event.tool_call_id)
    if number is None or "result" in answer.parts[number].fields:
        return
    state = _STATES.get(event.status, "done")
    value = {"type": "tool_call", "state": state, "result": event.result}
    yield _part(answer, event.attempt, number, value)


def _link(answer: Answer, event: events.Source | events.File) -> Iterator[events.AnyEvent]:
    kind = "source" if isinstance(event, events.Source) else "file"
    if any(part.type == kind and part.fields.get("url") == event.url for part in answer.parts):
        return
    value: dict[str, Any] = {"type": kind, "url": event.url, "media_type": event.media_type}
    value["title" if kind == "source" else "name"] = event.title
    if kind == "source" and answer.open_text is not None:
        text = answer.parts[answer.open_text]
        value["at"] = text.start + text.units
    yield _part(answer, event.attempt, len(answer.parts), value)


def _reset(answer: Answer, event: events.Reset) -> Iterator[events.AnyEvent]:
    """The parts that stay whole, and what else stays of the texts, again."""
    if event.keep > answer.content_units or event.keep_reasoning > answer.reasoning_units:
        yield event  # a hole, which the fold reports
        return
    keep, ends = _whole_parts(answer, event)
    yield events.Reset(answer.id, event.attempt, ends["text"], ends["reasoning"], keep)
    text = Slices(answer.content, ends["text"]).take(event.keep)
    thought = Slices(answer.reasoning, ends["reasoning"]).take(event.keep_reasoning)
    left = answer.copy()
    left.reset(keep)
    for kind, name, rest in (
        (events.Reasoning, "reasoning", thought),
        (events.Chunk, "text", text),
    ):
        number = left.open_text if name == "text" else left.open_reasoning
        number = len(left.parts) if number is None else number
        offset = ends[name]
        for piece in pieces(rest, events.MAX_EVENT_TEXT_BYTES):
            yield kind(answer.id, event.attempt, offset, piece, number)
            offset += utf16_length(piece)
        if rest and number == len(left.parts):
            left.add(Part(name, {}, text=rest))


def _whole_parts(answer: Answer, event: events.Reset) -> tuple[int, dict[str, int]]:
    """How many leading parts stay as they are, and how long their texts are."""
    ends, keep = {"text": 0, "reasoning": 0}, 0
    limits = {"text": event.keep, "reasoning": event.keep_reasoning}
    if not any(limits.values()):
        return keep, ends
    for part in answer.parts:
        if part.type == "tool_call" and "result" not in part.fields:
            break
        if part.type in ends:
            if ends[part.type] + part.units > limits[part.type]:
                break
            ends[part.type] += part.units
        keep += 1
    return keep, ends


def _part(answer: Answer, attempt: int, number: int, value: dict[str, Any]) -> events.PartEvent:
    return events.PartEvent(answer.id, attempt, number, value)


# --- rows ---------------------------------------------------------------------------------------


def _call_part(call: Mapping[str, Any]) -> Part:
    status = call.get("status")
    state = _state_of(call.get("arguments"), status if isinstance(status, str) else "pending")
    fields = {"id": call.get("tool_call_id"), "name": call.get("name"), "state": state}
    if "result" in call:
        fields["result"] = call["result"]
    return Part("tool_call", fields, text=_input_of(call.get("arguments")))


def _along(have: Answer, want: Answer) -> Answer | None:
    """`want` in the order of `have`, which it goes on from; None: it says something else."""
    texts = ((have.content, want.content), (have.reasoning, want.reasoning))
    behind = all(mine.startswith(other) for mine, other in texts)
    calls = {part.fields.get("id"): part for part in want.parts if part.type == "tool_call"}
    held = {part.fields.get("id") for part in have.parts if part.type == "tool_call"}
    if behind and not want.ended and calls.keys() <= held:
        return have.copy()
    if not held <= calls.keys() or not all(other.startswith(mine) for mine, other in texts):
        return None
    grown = have.copy()
    _grow(grown, want, [part for name, part in calls.items() if name not in held])
    for name in _FOLLOWED:
        setattr(grown, name, getattr(want, name))
    return grown


def _grow(grown: Answer, want: Answer, calls: list[Part]) -> None:
    """Append what `want` has beyond: reasoning, text, calls."""
    thought, text = want.reasoning[len(grown.reasoning) :], want.content[len(grown.content) :]
    for kind, offset, rest in (
        (events.Reasoning, grown.reasoning_units, thought),
        (events.Chunk, grown.content_units, text),
    ):
        if rest:
            for event in upgraded(grown, kind(grown.id, want.attempt, offset, rest)):
                grown.apply(event)
    for part in calls:
        grown.add(part.copy())


# --- calls --------------------------------------------------------------------------------------


def _number_of(answer: Answer, call_id: str) -> int | None:
    for number, part in enumerate(answer.parts):
        if part.type == "tool_call" and part.fields.get("id") == call_id:
            return number
    return None


def _input_of(arguments: Any) -> str:
    """The JSON of the arguments; where the model wrote none, what it wrote."""
    if isinstance(arguments, str):
        return arguments
    return json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))


def _state_of(arguments: Any, status: str) -> str:
    if isinstance(arguments, str):
        return "invalid"
    return _STATES.get(status, "proposed")
