"""Pure: how a new attempt goes on from what readers already hold.

`fold` puts the log over the checkpoint: the text that was appended is the text that people saw. `plan` then chooses the rung of the
ladder: re-attach, continue from the prefix, ask to go on in an extra turn, start over (`reset` keep 0), or give up. A turn that its
provider has paused is simply sent back to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenwire.protocol import events
from tokenwire.protocol.events import Entry
from tokenwire.protocol.text import cut, pieces, utf16_length
from tokenwire.providers.spec import Rung

KEEPING: frozenset[str] = frozenset({"attach", "prefix", "turn"})
"""Rungs that go on from the text that readers hold."""
PAUSED = "paused"
"""Kind of a `kept` entry that is no provider's (its dialect is empty): here the provider has paused its turn, to be resumed."""


@dataclass(frozen=True, slots=True)
class Held:
    """What readers hold of an answer: text, reasoning, tool calls as stored in the row, and the seq that this reaches.

    `sources`: what it cites, as far as that is known. No row holds that: only the worker that has heard it can tell a new log of it.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: Sequence[dict[str, Any]] = field(default_factory=tuple)
    seq: int = 0
    sources: tuple[events.Source, ...] = ()


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
    """`fresh` (nothing is held), `resume` (a paused turn) or a rung; `keeps` says whether the held text stays."""

    rung: Rung | Literal["fresh", "resume"]

    @property
    def keeps(self) -> bool:
        return self.rung in KEEPING or self.rung in ("none", "resume")


def fold(held: Held, message_id: str, entries: Iterable[Entry]) -> Held:
    """Apply the log's entries after `held.seq` to a checkpoint. Raises ValueError if they do not fit (a hole)."""
    text, reasoning, tool_calls, seq, sources = (
        held.text,
        held.reasoning,
        list(held.tool_calls),
        held.seq,
        list(held.sources),
    )
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
            tool_calls = [
                *(call for call in tool_calls if call["id"] != event.tool_call_id),
                stored_call(event),
            ]
        elif isinstance(event, events.Source):
            sources.append(event)
    return Held(text, reasoning, tuple(tool_calls), seq, tuple(sources))


def folded_whole(message_id: str, entries: Sequence[Entry], *, from_first: bool) -> Held | None:
    """What readers hold by these entries alone; None if the answer may have begun before them. `from_first`: nothing was before them."""
    first = next(_mine(message_id, entries), None)
    anew = isinstance(first, events.Reset) and first.keep == first.keep_reasoning == 0
    at_first = anew or (isinstance(first, events.Start) and first.attempt == 1)
    return fold(Held(), message_id, entries) if from_first or at_first else None


def _mine(message_id: str, entries: Iterable[Entry]) -> Iterator[events.AnyEvent]:
    for entry in entries:
        _, event = events.decode(entry.data)
        if event is not None and getattr(event, "message_id", None) == message_id:
            yield event


def difference(
    survived: Held | None, target: Held, message_id: str, attempt: int
) -> list[events.AnyEvent]:
    """The events that turn what readers hold (None: not known) into `target`: the rest, or a `reset` and everything."""
    told: list[events.AnyEvent] = []
    cited = {source.url for source in survived.sources} if survived else set()
    if survived is None or not begins(survived, target):
        survived = Held()
        told.append(events.Reset(message_id, attempt, keep=0, keep_reasoning=0))
    told += _rest(events.Reasoning, survived.reasoning, target.reasoning, message_id, attempt)
    told += _rest(events.Chunk, survived.text, target.text, message_id, attempt)
    known = {call["id"] for call in survived.tool_calls}
    for call in target.tool_calls:
        if call["id"] not in known:
            told.append(
                events.ToolCall(
                    message_id, attempt, call["id"], call["name"], call["arguments"], call["status"]
                )
            )
    return told + [source for source in target.sources if source.url not in cited]


def begins(held: Held, longer: Held) -> bool:
    """Whether `held` is a beginning of `longer`."""
    calls = {call["id"] for call in longer.tool_calls}
    return (
        longer.text.startswith(held.text)
        and longer.reasoning.startswith(held.reasoning)
        and all(call["id"] in calls for call in held.tool_calls)
    )


def _rest(
    kind: type[events.Chunk | events.Reasoning],
    held: str,
    whole: str,
    message_id: str,
    attempt: int,
) -> Iterator[events.AnyEvent]:
    offset = utf16_length(held)
    for piece in pieces(whole[len(held) :], events.MAX_EVENT_TEXT_BYTES):
        yield kind(message_id, attempt, offset, piece)
        offset += utf16_length(piece)


def stored_call(event: events.ToolCall) -> dict[str, Any]:
    """A tool call as the row keeps it."""
    return {
        "id": event.tool_call_id,
        "name": event.name,
        "arguments": event.arguments,
        "status": event.status,
    }


def attachment(run: Run | None, saved: Held, held: Held) -> Attachment | None:
    """How to attach to a run that was saved with the checkpoint `saved`, when readers hold `held`. None: not possible.

    Checkpoint and log may reach further than the place in the run; what they hold beyond is said again by it, and must be passed over.
    """
    if (
        run is None
        or held.tool_calls
        or not (held.text.startswith(saved.text) and held.reasoning.startswith(saved.reasoning))
    ):
        return None
    if run.text > len(saved.text) or run.reasoning > len(saved.reasoning):
        return None
    return Attachment(run, len(held.text) - run.text, len(held.reasoning) - run.reasoning)


def still_kept(
    entries: Sequence[dict[str, Any]] | None, saved: Held, held: Held
) -> list[dict[str, Any]]:
    """Those of a row's `kept` entries that belong to what readers hold. `saved`: the row's text; where it was withdrawn since, none do."""
    if not (held.text.startswith(saved.text) and held.reasoning.startswith(saved.reasoning)):
        return []
    return [entry for entry in entries or () if entry["at"] <= len(held.text)]


def is_paused(entries: Sequence[dict[str, Any]], held: Held) -> bool:
    """Whether what readers hold ends where the provider has paused its turn. `entries`: what is kept of the answer."""
    last = entries[-1] if entries and not held.tool_calls else None
    return (
        last is not None
        and not last["dialect"]
        and last["kind"] == PAUSED
        and last["at"] == len(held.text)
    )


def plan(
    best: Rung,
    held: Held,
    *,
    attachable: bool = False,
    must_be_json: bool = False,
    paused: bool = False,
) -> Plan:
    """The rung for a model whose best one is `best`. Rungs that stitch are refused for tool calls and for text that must be JSON.

    A model that could be attached to, without a run to attach to, is asked to go on in an extra turn.
    """
    if paused:
        return Plan("resume")
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
