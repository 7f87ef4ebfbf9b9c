"""People who decide about calls: in time, late, twice, differently at once, or never."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Protocol

from tests.simulation.call_tables import QUESTIONS, is_unfinished
from tests.simulation.loop import Node
from tests.simulation.processes import Site, WebProcess

MANNERS = ("once", "once", "twice", "differently", "late", "after the end", "never")
PAUSE_SECONDS = 0.05


class Town(Protocol):
    """Where people live."""

    site: Site

    async def attempt(
        self, person: Node, what: str, request: Callable[[WebProcess], Any]
    ) -> Any: ...


async def attend(town: Town, person: Node, message_id: str, rng: random.Random) -> None:
    """Decide about each call of the answer that asks, until it has ended."""
    database, seen = town.site.database, set[tuple[int, int, str]]()
    while _is_open(town, message_id):
        for call in database.calls_of(message_id):
            question = call.number, call.runs, call.state
            if call.state in QUESTIONS and question not in seen:
                seen.add(question)
                person.spawn(_decide(town, person, call, rng))
        await asyncio.sleep(PAUSE_SECONDS)


def _is_open(town: Town, message_id: str) -> bool:
    row = town.site.database.messages.get(message_id)
    return row is not None and is_unfinished(row)


async def _decide(town: Town, person: Node, call: Any, rng: random.Random) -> None:
    manner = rng.choice(MANNERS)
    if manner == "never":
        return
    left = (call.expires_at - town.site.database.now_ms()) / 1000
    seconds = (
        rng.choice((0.0, rng.uniform(0.0, 2.0)))
        if manner != "late"
        else left + rng.uniform(-0.3, 0.3)
    )
    await asyncio.sleep(max(0.0, seconds))
    while manner == "after the end" and _is_open(town, call.message_id):
        await asyncio.sleep(PAUSE_SECONDS)
    first = _body(call, rng)
    second = first if manner == "twice" else _body(call, rng)
    bodies = [first, second] if manner in ("twice", "differently") else [first]
    told = await asyncio.gather(*(_send(town, person, call, body) for body in bodies))
    if manner == "twice" and "AlreadyDecided" in told and "applied" not in told:
        return  # somebody came before both


async def _send(town: Town, person: Node, call: Any, body: dict[str, Any]) -> Any:
    what = f"decide {call.message_id}/{call.number} {body['decision']}"
    for _ in range(3):
        told = await town.attempt(
            person, what, lambda web: web.decide(call.message_id, call.number, body)
        )
        if told is not None:
            break
    return told


def _body(call: Any, rng: random.Random) -> dict[str, Any]:
    """A decision that fits the question."""
    kind = rng.choice(QUESTIONS[call.state])
    body: dict[str, Any] = {"decision": kind}
    if rng.random() < 0.7 or kind == "repeat":
        body["runs"] = call.runs
    if kind == "error":
        body["reason"] = "It did not work."
    if kind == "deny" and rng.random() < 0.5:
        body["reason"] = "No."
    if kind == "approve" and rng.random() < 0.3:
        body["arguments"] = {"n": 1000 + rng.randint(0, 9)}
    if kind == "result":
        body["result"] = {"told": rng.randint(0, 9)}
    return body
