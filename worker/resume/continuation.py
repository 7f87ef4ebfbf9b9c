"""Pure: how a new attempt continues from what readers already hold.

`plan` chooses the rung: attach to the provider's run, continue from the prefix, ask the model to
continue in an extra turn, start over, or give up. It sees only the present turn: the parts behind
the proven ones (`turn_start`). Proven parts stay, and go into the request as earlier messages. A
turn that its provider has paused is proven, too, and simply sent back.

Guarantees: a plan keeps what readers hold of the present turn only if the next request can continue
exactly that. Another request never continues tool calls or JSON: the two halves would not fit.
Nothing that is proven is ever withdrawn, marked as lost, or asked for again.

Why this order: attaching costs nothing and repeats nothing; a prefix costs a request; an extra turn
may repeat words; starting over takes text away from readers.

Rejected: a turn that begins behind the last `step` (a worker may die between a step and the save of
the turn before it, and then the row lacks values that must go back).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tokenwire.protocol import events
from tokenwire.protocol.events import Entry
from tokenwire.protocol.fold import Answer, Hole, Part
from tokenwire.protocol.kept import LOST, is_lost, steps_between
from tokenwire.protocol.replay import begins
from tokenwire.providers.spec import Rung

KEEPING: frozenset[str] = frozenset({"attach", "prefix", "turn"})
"""Rungs that continue the text that readers hold."""
_KEEPING_TYPES = frozenset({"reasoning", "tool_call", "source", "file", "provider"})
"""Types of parts that may have a kept value."""
_BEHIND_PROVEN = frozenset({"step", "unknown"})


class Held(NamedTuple):
    """What readers hold of an answer, and the seq of the last event in it.

    `proven`: so many leading parts belong to proven turns.
    """

    answer: Answer
    seq: int = 0
    proven: int = 0

    @property
    def turn_start(self) -> int:
        """The number of the first part of the present turn."""
        return turn_start(self.answer.parts, self.proven)


@dataclass(frozen=True, slots=True)
class Run:
    """A provider's own run that can be attached to again: its name, and a place in it.

    `cursor`: the provider's word for that place (None: its beginning). There the answer had so many
    parts, and so many units of text and of reasoning.
    """

    id: str
    cursor: int | None
    parts: int = 0
    text: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How to continue: `fresh` (nothing is held), `resume` (of the present turn nothing is held) or
    a rung.

    `keeps`: whether what readers hold of the present turn stays.
    """

    rung: Rung | Literal["fresh", "resume"]

    @property
    def keeps(self) -> bool:
        return self.rung in KEEPING or self.rung in ("none", "resume")


def turn_start(parts: Sequence[Part], proven: int) -> int:
    """The number of the first part of the present turn. A step that follows the proven parts
    belongs to no turn.
    """
    follows = 0 < proven < len(parts) and parts[proven].type == "step"
    return proven + follows


def last_round(parts: Sequence[Part]) -> int:
    """How many leading parts are finished rounds with their steps. What follows is one message of
    the model, however often it was paused.
    """
    return max(steps_between(parts), default=-1) + 1


def still_proven(parts: Sequence[Part], proven: int) -> int:
    """How many leading parts are proven if the row says `proven`.

    A worker of the version before may have withdrawn such parts: a step or nothing stands behind
    proven ones (`unknown`: the step's row is missing). A paused turn that has lost a value since
    cannot be sent back, so it counts as unproven.
    """
    if proven > len(parts) or (proven < len(parts) and parts[proven].type not in _BEHIND_PROVEN):
        return 0
    start = last_round(parts[:proven])
    turn = parts[start:proven]
    is_pause = bool(turn) and not _calls(turn)
    return max(0, start - 1) if is_pause and not may_resume(turn) else proven


def folded(held: Held, entries: Iterable[Entry]) -> Held:
    """Apply entries of the log to `held`, in place. Raises Hole, Unproven."""
    answer, seq, proven = held
    # The last one is what is held.
    for seq, event in events.events_of(answer.id, entries):  # noqa: B007
        answer.apply(event)
    return Held(answer, seq, proven)


def folded_whole(message_id: str, entries: Sequence[Entry], *, from_first: bool) -> Held | None:
    """What readers hold after these entries. None if the answer may have begun before them.

    `from_first`: they are the first entries of the log.
    """
    _, first = next(events.events_of(message_id, entries), (0, None))
    at_first = from_first or (first is not None and events.begins_anew(first))
    return folded(Held(Answer(message_id)), entries) if at_first else None


def as_of(answer: Answer, run: Run) -> Answer:
    """The answer cut back to the run's cursor. Raises Hole if it never was in that state."""
    then = answer.copy()
    place = {"keep": run.text, "keep_reasoning": run.reasoning, "keep_parts": run.parts}
    then.apply(events.Reset(answer.id, answer.attempt, **place))
    return then


def is_attachable(run: Run | None, saved: Answer, held: Answer, start: int = 0) -> bool:
    """Whether a run that was saved with the answer `saved` continues what readers hold.

    Readers may hold text behind its cursor: the run repeats it. But nothing before its cursor may
    have been withdrawn since. `start`: where the present turn begins. A run of an earlier turn is
    over.
    """
    if run is None or run.parts < start or not begins(saved, held):
        return False
    try:
        as_of(held, run)
    except Hole:
        return False
    return True


def mark_lost(saved: Answer, held: Held, run_parts: int) -> None:
    """Mark parts of the present turn whose kept value may be lost with the previous worker.

    A kept value comes at the end of a part, without an event. So it may be lost if the part was
    not saved in its present state. It may also be lost if the part is the last saved reasoning: its
    end may come behind later parts, and no row shows whether it came. `run_parts`: the number of
    parts before a run's cursor. Their kept values are complete.
    """
    start, parts = held.turn_start, held.answer.parts
    reasonings = [number for number, part in enumerate(saved.parts) if part.type == "reasoning"]
    for number, part in enumerate(parts[start:], start):
        was = saved.parts[number] if number < len(saved.parts) else None
        has_ended = number not in reasonings[-1:] or number < run_parts
        is_saved = was is not None and has_ended and was.equals(part)
        if part.type in _KEEPING_TYPES and part.kept is None and not is_saved:
            part.kept = LOST


def lost_in(held: Held) -> list[int]:
    """Numbers of the parts of the present turn whose kept value was lost for certain, and that do
    not say so yet.

    Nothing else makes a part of the provider, a reasoning without text or a source without an
    address. Of other parts nobody knows whether something was kept.
    """
    return [
        number
        for number, part in enumerate(held.answer.parts[held.turn_start :], held.turn_start)
        if _is_only_kept(part) and not _has_kept(part) and not part.fields.get("dropped")
    ]


def _is_only_kept(part: Part) -> bool:
    """Whether the part exists because something was kept."""
    is_empty = part.type == "reasoning" and part.units == 0
    is_bare = part.type == "source" and part.fields.keys().isdisjoint(("url", "address"))
    return part.type == "provider" or is_empty or is_bare


def _has_kept(part: Part) -> bool:
    return part.kept is not None and not is_lost(part)


def may_resume(turn: Sequence[Part]) -> bool:
    """Whether a paused turn can be sent back to its provider: it is complete, and more than text,
    because no provider resumes from text alone. `turn`: everything behind the last round.
    """
    kept = any(part.type == "provider" and _has_kept(part) for part in turn)
    lost = any(is_lost(part) for part in turn)
    files = any(part.type == "file" for part in turn)
    return kept and not lost and not files and not _calls(turn)


def plan(
    best_rung: Rung, held: Held, *, attachable: bool = False, must_be_json: bool = False
) -> Plan:
    """The rung for a model whose best one is `best_rung`.

    Text is never continued by another request if there are tool calls in its turn, or if it must be
    JSON. A model with `attach`, but without a run, is asked to continue in an extra turn.
    """
    if best_rung == "attach" and attachable:
        return Plan("attach")
    turn = held.answer.parts[held.turn_start :]
    if not turn:
        return Plan("resume" if held.proven else "fresh")
    if best_rung == "none":
        return Plan("none")
    has_text = any(part.type == "text" and part.units for part in turn)
    if not has_text or _calls(turn) or must_be_json:
        return Plan("restart")
    return Plan("turn" if best_rung == "attach" else best_rung)


def _calls(turn: Iterable[Part]) -> bool:
    return any(part.type == "tool_call" for part in turn)
