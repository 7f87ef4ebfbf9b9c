"""Pure: how a new attempt goes on from what viewers already hold.

`fold` puts the log over the checkpoint: the text that was appended is the text that people saw. `plan` then chooses the rung of the
ladder: re-attach, continue from the prefix, ask to go on in an extra turn, start over (`reset` keep 0), or give up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from streams import events
from streams.ports import Entry
from streams.text import cut, utf16_length

Rung = Literal["attach", "prefix", "turn", "restart", "none"]
KEEPING: frozenset[str] = frozenset({"attach", "prefix", "turn"})
"""Rungs that go on from the text that viewers hold."""


@dataclass(frozen=True, slots=True)
class Held:
    """What viewers hold of an answer: text, reasoning, tool calls as stored in the row, and the seq that this reaches."""

    text: str = ""
    reasoning: str = ""
    tool_calls: Sequence[dict[str, Any]] = field(default_factory=tuple)
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A provider's own run that can be attached to again: its name, a place in it (None: its beginning), and how many characters of text
    and reasoning an answer had there."""

    id: str
    cursor: int | None
    text: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Attachment:
    """A run to attach to, and how much of what it will say again is held already, in characters."""

    run: Run
    known_text: int = 0
    known_reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """`fresh` (nothing is held) or a rung; `keeps` says whether the held text stays."""

    rung: Rung | Literal["fresh"]

    @property
    def keeps(self) -> bool:
        return self.rung in KEEPING or self.rung == "none"


def fold(held: Held, message_id: str, entries: Iterable[Entry]) -> Held:
    """Apply the log's entries after `held.seq` to a checkpoint. Raises ValueError if they do not fit (a hole)."""
    text, reasoning, tool_calls, seq = held.text, held.reasoning, list(held.tool_calls), held.seq
    for entry in entries:
        _, event = events.decode(entry.data)
        if getattr(event, "message_id", None) != message_id:
            continue
        seq = entry.seq
        if isinstance(event, events.Chunk):
            text = _put(text, event.offset, event.content)
        elif isinstance(event, events.Reasoning):
            reasoning = _put(reasoning, event.offset, event.content)
        elif isinstance(event, events.Reset):
            text, reasoning = cut(text, event.keep), cut(reasoning, event.keep_reasoning)
            tool_calls = [call for call in tool_calls if "result" in call]
        elif isinstance(event, events.ToolCall):
            tool_calls.append(stored_call(event))
    return Held(text, reasoning, tuple(tool_calls), seq)


def stored_call(event: events.ToolCall) -> dict[str, Any]:
    """A tool call as the row keeps it."""
    return {"id": event.tool_call_id, "name": event.name, "arguments": event.arguments, "status": event.status}


def attachment(run: Run | None, saved: Held, held: Held) -> Attachment | None:
    """How to attach to a run that was saved with the checkpoint `saved`, when viewers hold `held`. None: not possible.

    Checkpoint and log may reach further than the place in the run; what they hold beyond is said again by it, and must be passed over.
    """
    if run is None or held.tool_calls or not (held.text.startswith(saved.text) and held.reasoning.startswith(saved.reasoning)):
        return None
    if run.text > len(saved.text) or run.reasoning > len(saved.reasoning):
        return None
    return Attachment(run, len(held.text) - run.text, len(held.reasoning) - run.reasoning)


def plan(best: Rung, held: Held, *, attachable: bool = False, must_be_json: bool = False) -> Plan:
    """The rung for a model whose best one is `best`. Rungs that stitch are refused for tool calls and for text that must be JSON.

    A model that could be attached to, without a run to attach to, is asked to go on in an extra turn.
    """
    if best == "attach" and attachable:
        return Plan("attach")
    if not held.text and not held.reasoning and not held.tool_calls:
        return Plan("fresh")
    if best == "none":
        return Plan("none")
    stitchable = bool(held.text) and not held.tool_calls and not must_be_json
    if not stitchable:
        return Plan("restart")
    return Plan("turn" if best == "attach" else best)


def _put(text: str, offset: int, content: str) -> str:
    length = utf16_length(text)
    if offset > length:
        raise ValueError(f"a hole: text of {length} units, next piece at {offset}")
    return (text if offset == length else cut(text, offset)) + content
