"""What must be true of messages that steer, whatever is killed: a step names each once, its model
gets it there, its placeholder ends once and behind the step. No message stays without an answer.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from tests.simulation.call_tables import Row, is_unfinished
from tests.simulation.processes import Site
from tests.simulation.rounds import Rounds
from tokenwire.models.steering import STEERED
from tokenwire.protocol import events
from tokenwire.protocol.values import brought_by

POINTS = ("step appended", "step stored", "placeholder ended")
"""The places of the taking-in between two effects, in order."""


def points(site: Site, message_id: str) -> set[str]:
    """The points at which messages stand that this answer takes in."""
    row, names = site.database.messages.get(message_id), site.steps.get(message_id)
    if row is None or not names:
        return set()
    stored = {name for part in site.database.message(message_id).parts or () for name in _in(part)}
    found = set()
    for name, placeholder in _placeholders(site, names).items():
        if placeholder.cancel_by == STEERED and not placeholder.terminal_announced:
            found.add("placeholder ended")
        elif is_unfinished(placeholder):
            found.add("step stored" if name in stored else "step appended")
    return found


class Acknowledged:
    """Sees each event that is published, and complains of what no step may say."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._named: dict[tuple[str, str], dict[str, int]] = {}
        """(epoch, answer) -> the messages that its steps name, and the parts that do."""

    def take(self, epoch: str, message_id: str, event: events.AnyEvent) -> None:
        """The next event of the log."""
        named = self._named.setdefault((epoch, message_id), {})
        match event:
            case events.Reset():
                for name in [name for name, part in named.items() if part >= event.keep_parts]:
                    del named[name]
            case events.PartEvent():
                for name in _in(event.value):
                    if name in named:
                        self._site.complain(f"{message_id} takes {name} in twice: {event}")
                    named[name] = event.part
                    self._site.steps.setdefault(message_id, set()).add(name)
            case events.Cancelled(by=by) if by == STEERED:
                self._check_end(message_id)

    def _check_end(self, message_id: str) -> None:
        row = self._site.database.messages.get(message_id)
        if row is not None and not any(row.parent_id in n for n in self._site.steps.values()):
            self._site.complain(f"{message_id} ended as {STEERED}, and no step named it")


def counted(site: Site) -> Mapping[str, int]:
    """Numbers for the summary."""
    return {"steered": sum(row.steers is not None for row in site.database.messages.values())}


def at_rest(site: Site, *, lost: bool) -> None:
    """Complain about each message that is answered twice, or not at all, or elsewhere than its step
    says. `lost`: a log has lost something, perhaps a step.
    """
    steps = {row.id: _by_step(row) for row in site.database.answers()}
    named = Counter(name for found in steps.values() for name in found)
    for name, count in named.items():
        if count > 1:
            site.complain(f"{name} came with {count} steps")
    for row in site.database.messages.values():
        if row.role == "user":
            for wrong in _wrong_message(site, row, steps):
                site.complain(f"{row.id} ({row.content}): {wrong}")
    for row in site.database.answers():
        rounds = _rounds(site, row)
        if rounds is not None:
            for wrong in _wrong_places(site, row, rounds, steps[row.id], lost=lost):
                site.complain(f"{row.id} ({row.status}): {wrong}")


def _wrong_message(site: Site, row: Row, steps: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    answer = _placeholders(site, {row.id})[row.id]
    taken = [message_id for message_id, names in steps.items() if row.id in names]
    if taken != [name for name in (row.steers,) if name is not None]:
        yield f"steps of {taken} name it, its row says {row.steers}"
    if (answer.superseded_by is not None) != (row.steers is not None):
        yield f"{answer.id} is replaced by {answer.superseded_by}, and {row.steers} took it in"
    if answer.cancel_by == STEERED and row.steers is None:
        yield "nobody answers it"


def _wrong_places(
    site: Site, row: Row, rounds: Rounds, steps: Mapping[str, int], *, lost: bool
) -> Iterator[str]:
    """The model got each message where its step stands, and no other one."""
    heard = {name: rounds.heard.get(site.database.messages[name].content) for name in steps}
    for name, place in heard.items():
        if place not in (None, steps[name]) or (place is None and row.status == "complete"):
            yield f"step {steps[name]} names {name}, the model got it behind round {place}"
    told = {site.database.messages[name].content for name in steps}
    if not lost and set(rounds.heard) - told:
        yield f"the model got {set(rounds.heard) - told}, which no step names"


def _by_step(row: Row) -> dict[str, int]:
    """The messages that came with steps, each with the number of the step."""
    found, step = dict[str, int](), 0
    for part in row.parts or ():
        step += part["type"] == "step"
        found.update(dict.fromkeys(_in(part), step))
    return found


def _in(part: Mapping[str, Any]) -> list[str]:
    return list(brought_by(part)) if part.get("type") == "step" else []


def _placeholders(site: Site, names: set[str]) -> dict[str, Row]:
    return {row.parent_id: row for row in site.database.answers() if row.parent_id in names}


def _rounds(site: Site, row: Row) -> Rounds | None:
    found: Any = site.scripts.get(site.database.messages[row.parent_id].content)
    return found if isinstance(found, Rounds) else None
