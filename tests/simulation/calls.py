"""What must be true of tool calls, whatever is killed: executions outside, rows, log and model
agree.

`points` says between which two steps of a call a process would die now. A schedule counts the
deaths at each.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tests.simulation import steering
from tests.simulation.call_tables import FIRST_MS, QUESTIONS, Row
from tests.simulation.loop import Node
from tests.simulation.parts import Part, Parts, row_as_parts, said_as_parts
from tests.simulation.processes import Site, WorkerProcess
from tests.simulation.rounds import Rounds, Turn
from tests.simulation.store import READS
from tests.simulation.tools import Execution, World, needs_approval

POINTS = (
    *("approved", "claimed", "tool began", "tool ended", "result stored"),
    "model asked again",
)
"""The places of a call between two effects, in order."""
ENDED = ("invalid", "done", "failed", "denied", "withdrawn", "unknown")
BECOMES = {
    "proposed": {"running", "awaiting_approval", "awaiting_client", "failed", "withdrawn"},
    "awaiting_approval": {"proposed", "denied", "withdrawn"},
    "awaiting_client": {"done", "failed", "withdrawn"},
    "running": {"done", "failed", "proposed", "awaiting_outcome", "unknown"},
    "awaiting_outcome": {"proposed", "done", "unknown"},
}
"""What a state may become (the table of the design)."""
RAN = ("done", "failed", "unknown", "awaiting_outcome")
_READS = ("read", "renew", "leased", "new_server", "note_server", "note_time", "noted_time")


# --- where a process dies -----------------------------------------------------------------------


def points(site: Site, message_id: str, node: Node) -> set[str]:
    """The points at which the calls of this answer stand, which this process has."""
    world, row = site.world, site.database.messages.get(message_id)
    rounds = _rounds(site, row)
    if world is None or rounds is None:
        return set()
    found = {_point(world, call) for call in site.database.calls_of(message_id)}
    if row is not None and row.rounds and found & {"result stored"}:
        next_turn = rounds.turn_of(row.rounds)
        if node in next_turn.held:
            found = (found - {"result stored"}) | {"model asked again"}
        elif next_turn.calls:
            found -= {"result stored"}
    return {point for point in found if point}


def _point(world: World, call: Row) -> str | None:
    ran = world.of(call.key, call.runs)
    if call.state == "proposed" and (call.approval or {}).get("decision") == "approved":
        return "approved"
    if call.state == "running":
        if not ran:
            return "claimed"
        return "tool began" if ran[-1].outcome is None else "tool ended"
    return "result stored" if call.state in RAN and ran else None


def _rounds(site: Site, row: Row | None) -> Rounds | None:
    question = site.database.messages.get(row.parent_id) if row is not None else None
    found: Any = site.scripts.get(question.content) if question is not None else None
    return found if isinstance(found, Rounds) else None


class Deaths:
    """Counts the points at which workers die. `die` is given the worker whose effect has the number
    `behind`.
    """

    def __init__(self, site: Site, behind: int, die: Callable[[Node], None]) -> None:
        self.facts: Counter[str] = Counter()
        self._site, self._left, self._die = site, behind, die
        self._workers: dict[Node, WorkerProcess] = {}
        site.net.on_done = self._done
        site.database.on_call_changed = self._changed
        if site.world is not None:
            site.world.on_effect = self._effect

    def watch(self, worker: WorkerProcess) -> None:
        """Note where this worker dies."""
        self._workers[worker.node] = worker
        worker.node.on_death.append(lambda: self._died(worker))

    def _died(self, worker: WorkerProcess) -> None:
        if not worker.ended and self._site.world is not None:
            for message_id, _ in worker.attempts:
                found = points(self._site, message_id, worker.node)
                found |= steering.points(self._site, message_id)
                self.facts.update(f"deaths at: {point}" for point in found)

    def _changed(self, call: Row, values: Mapping[str, Any]) -> None:
        after = values.get("state", call.state)
        now = FIRST_MS + int(self._site.loop.time() * 1000)
        if call.state in QUESTIONS and after in ("proposed", "done") and call.expires_at <= now:
            self._site.complain(f"{call.message_id}/{call.number}: {after} after its time")
        if after not in BECOMES.get(call.state, ()):
            self._site.complain(f"{call.message_id}/{call.number}: {call.state} became {after}")

    def _done(self, node: Node, what: str) -> None:
        service, name = what.partition("(")[0].split(" ", 1)
        if name not in (READS if service == "sql" else _READS):
            self._effect(node)

    def _effect(self, node: Node) -> None:
        if node in self._workers and node.alive and self._left:
            self._left -= 1
            if not self._left:
                self.facts["deaths behind an effect"] += 1
                self._die(node)


# --- when all is over ---------------------------------------------------------------------------


def counted(site: Site) -> Mapping[str, int]:
    """Numbers for the summary."""
    if site.world is None:
        return {}
    calls = [call for row in site.database.answers() for call in site.database.calls_of(row.id)]
    return {
        "calls": len(calls),
        "executions": sum(map(len, site.world.executions.values())),
        "executed again": sum(len(ran) > 1 for ran in site.world.executions.values()),
        "decisions": len(site.database.decision_rows),
    }


def at_rest(site: Site) -> None:
    """Complain about every call that ran without permission, and every difference between what a
    tool did, its row, its part and what the model got.
    """
    if site.world is None:
        return
    for row in site.database.answers():
        rounds = _rounds(site, row)
        if rounds is not None:
            for wrong in (*_wrong_answer(row, rounds), *_wrong_calls(site, row, rounds)):
                site.complain(f"{row.id} ({row.status}): {wrong}")


def _wrong_answer(row: Row, rounds: Rounds) -> Iterator[str]:
    """Each turn is what some request for it was answered with, and all are there at the end."""
    segments = _by_step(row_as_parts(row, {}))
    for number, segment in enumerate(segments):
        is_last = number == len(segments) - 1
        turn, last = rounds.turn_of(number), rounds.turns[-1]
        turns = [last] if is_last and row.status == "complete" else [turn, last]
        is_whole = not is_last or row.status == "complete"
        if not any(_fits(segment, one, row.id, is_whole=is_whole) for one in turns):
            told = [said_as_parts(said, row.id) for one in turns for said in one.beginnings()]
            yield f"turn {number} is {segment}, said was {told}"


def _by_step(parts: Parts) -> list[list[Part]]:
    found: list[list[Part]] = [[]]
    for part in parts:
        if part.type == "step":
            found.append([])
        else:
            found[-1].append(part)
    return found


def _fits(segment: Sequence[Part], turn: Turn, message_id: str, *, is_whole: bool) -> bool:
    held = [_bare(part) for part in segment]
    ways = [[_bare(part) for part in said_as_parts(s, message_id)] for s in turn.beginnings()]
    if is_whole:
        return held in ways
    return not held or any(
        len(held) <= len(way)
        and held[:-1] == way[: len(held) - 1]
        and held[-1][:2] == way[len(held) - 1][:2]
        and way[len(held) - 1][2].startswith(held[-1][2])
        for way in ways
    )


def _bare(part: Part) -> tuple[str, Any, str]:
    """The part without what rows of calls say of it."""
    return part.type, (part.fields.get("id"), part.fields.get("name")), part.text


def _wrong_calls(site: Site, row: Row, rounds: Rounds) -> Iterator[str]:
    assert site.world is not None
    parts = row_as_parts(row, {})
    for call in site.database.calls_of(row.id):
        ran = site.world.of(call.key)
        records = [one for one in site.database.decisions_of(row.id) if one.number == call.number]
        for wrong in (
            *_wrong_row(call, parts[call.number].fields),
            *_wrong_runs(call, ran, records),
            *_wrong_outcome(call, ran, records),
            *_wrong_records(records),
        ):
            yield f"call {call.number} ({call.name}, {call.state}): {wrong}"
        got = rounds.results.get(call.id)
        if got is not None and _for_model(call) not in (None, got):
            yield f"the model got {got} for {call}"


def _wrong_row(call: Row, fields: Mapping[str, Any]) -> Iterator[str]:
    if call.state not in ENDED:
        yield "it has not ended"
    for name in ("state", "runs_at", "title", "result", "error", "approval", "ran_with"):
        if fields.get(name) != getattr(call, name):
            yield f"{name}: {fields.get(name)} in the part, {getattr(call, name)} in the row"


def _wrong_runs(call: Row, ran: Sequence[Execution], records: Sequence[Row]) -> Iterator[str]:
    repeats = sum(record.decision == "repeat" for record in records)
    if len(ran) > call.runs or not all(1 <= one.run <= call.runs for one in ran):
        yield f"executed {[one.run for one in ran]}, claimed {call.runs} times"
    if not call.repeatable and len(ran) > 1 + repeats:
        yield f"executed {len(ran)} times, {repeats} repetitions were allowed"
    approvals = [record for record in records if record.decision == "approve"]
    edited = next((record.value for record in approvals if record.value is not None), None)
    for one in ran:
        if needs_approval(call.name, _number(call.input)) and not approvals:
            yield "executed without an approval"
        if one.n != _number(edited if edited is not None else call.input):
            yield f"executed with {one.n}: {call.input}, edited {edited}"
    if call.state in ("denied", "invalid") and ran:
        yield "executed"


def _wrong_outcome(call: Row, ran: Sequence[Execution], records: Sequence[Row]) -> Iterator[str]:
    told = [record.value for record in records if record.decision == "result"]
    results = [one.result for one in ran if one.outcome == "done"]
    if call.state == "done" and call.result not in [*results, *told]:
        yield f"its result is {call.result}, runs gave {results}, people {told}"
    if call.state == "failed" and ran and ran[-1].outcome != "failed":
        yield f"failed, but its last run was {ran[-1].outcome}"
    if call.state == "withdrawn" and ran and not call.repeatable and len(ran) > _repeats(records):
        yield "withdrawn although it ran"


def _repeats(records: Sequence[Row]) -> int:
    return sum(record.decision == "repeat" for record in records)


def _wrong_records(records: Sequence[Row]) -> Iterator[str]:
    """Each question has one decision at most."""
    asked = Counter(
        (record.runs, kinds)
        for record in records
        for kinds in QUESTIONS.values()
        if record.decision in kinds and (record.decision != "result" or "repeat" in kinds)
    )
    for question, count in asked.items():
        if count > 1:
            yield f"{count} decisions about {question}"


def _number(text: str) -> int:
    found = json.loads(text)
    return int(found["n"])


def _for_model(call: Row) -> tuple[str, bool] | None:
    """What the model gets; None: some sentence by its state."""
    if call.error is not None:
        return call.error, True
    if call.state == "done":
        told = call.result
        return (told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)), False
    return None
