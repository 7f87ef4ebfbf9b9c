"""What people and clients of a run decide about calls, often two of them at the same time.

`Offers` gives for a call that awaits something the decisions that are sent at once.
"""

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.chaos.watching import Api

Decision = dict[str, Any]
Offers = Callable[[str], Sequence[Decision]]

DIFFERENT = {"awaiting_approval": ("approve", "deny"), "awaiting_outcome": ("repeat", "go_on")}
FOUND, MISSED = {"decision": "result", "result": "found"}, {"decision": "result", "result": "no"}
APPROVE, DENY, GO_ON, ERROR = (
    {"decision": "approve"},
    {"decision": "deny"},
    {"decision": "go_on"},
    {"decision": "error", "reason": "Nobody picked."},
)
MIXED: dict[str, Sequence[Sequence[Decision]]] = {
    "awaiting_approval": ([APPROVE], [APPROVE, APPROVE], [APPROVE, APPROVE], [APPROVE, DENY]),
    "awaiting_client": ([FOUND], [FOUND, FOUND], [FOUND, MISSED], [FOUND, ERROR]),
    "awaiting_outcome": ([GO_ON], [GO_ON, GO_ON], [FOUND, GO_ON]),
}
"""Nobody lets a call run again: each has at most one execution."""


def different(state: str) -> Sequence[Decision]:
    """Two people who do not agree."""
    kinds = DIFFERENT.get(state, ())
    return [{"decision": kind} for kind in random.sample(kinds, len(kinds))]


def mixed(state: str) -> Sequence[Decision]:
    """One of them, or two who agree, or two who do not."""
    chosen = random.choice(MIXED[state]) if state in MIXED else ()
    return random.sample(chosen, len(chosen))


class People:
    """Those who decide about one answer. `applied`: calls and the decisions about them that the
    API said it applied; `approved`: places of calls that are, or are about to be, approved.
    """

    def __init__(self, api: Api, offers: Offers, approved: set[int]) -> None:
        self._api, self._offers, self._approved = api, offers, approved
        self.applied: list[tuple[int, Decision]] = []
        self.too_late = 0

    async def decide(self, message_id: str) -> None:
        """About each call that awaits something now."""
        found = await self._api.call("GET", f"/api/messages/{message_id}/calls")
        for call in found["calls"]:
            if decisions := self._offers(call["state"]):
                if any(each["decision"] == "approve" for each in decisions):
                    self._approved.add(json.loads(call["input"])["place"])
                path = f"/api/messages/{message_id}/calls/{call['number']}/decision"
                await self._at_once(path, call, decisions)

    async def _at_once(self, path: str, call: Decision, decisions: Sequence[Decision]) -> None:
        bodies = [{**decision, "runs": call["runs"]} for decision in decisions]
        found = await asyncio.gather(*(self._api.answered("POST", path, each) for each in bodies))
        for decision, (status, answer) in zip(decisions, found, strict=True):
            if status == 200:
                self.applied.append((call["number"], decision))
            elif answer["code"] == "already_decided":
                self.too_late += 1
            elif answer["code"] not in ("not_awaited", "answer_ended"):
                raise AssertionError(f"{decision}: {status} {answer}")
