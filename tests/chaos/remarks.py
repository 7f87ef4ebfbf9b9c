"""A person writes while an answer runs (`while_running: steer`). The message reaches the answer at
a step, or is answered next: exactly one of the two.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.checks import Folded
from tests.chaos.script import Script
from tests.chaos.watching import Api
from tests.e2e.reader import TERMINAL


@dataclass
class Remark:
    """One message, written `after` so many seconds, sometimes `twice` at once."""

    script: Script
    after: float
    twice: bool = False
    message_id: str = ""
    row: dict[str, Any] = field(default_factory=dict)
    """Of the answer of its own that it may get."""
    log: Folded | None = None
    """Of the same."""
    steers: str | None = None
    """The answer that took the message in, as its row says."""
    reached: int | None = None
    """The number of the text whose model got it in the middle."""

    async def post(self, api: Api, conversation_id: str) -> None:
        """Write it, and wait until it was taken in, or answered."""
        await asyncio.sleep(self.after)
        path = f"/api/conversations/{conversation_id}"
        own = {"options": {"seed": self.script.number}}  # says what its own answer is about
        body = {"content": self.script.question, "while_running": "steer", **own}
        key = {"Idempotency-Key": f"remark-{self.script.number}"}
        posts = [api.call("POST", f"{path}/messages", body, **key) for _ in range(1 + self.twice)]
        found = {posted["user_message"]["id"] for posted in await asyncio.gather(*posts)}
        if len(found) != 1:
            raise AssertionError(f"one remark became {len(found)}")
        (self.message_id,) = found
        while not self._is_over((await api.call("GET", path))["messages"]):
            await asyncio.sleep(0.3)

    def _is_over(self, messages: list[dict[str, Any]]) -> bool:
        mine = [row["id"] for row in messages].index(self.message_id)
        behind = [row for row in messages[mine + 1 :] if row["role"] == "assistant"]
        return all(row["status"] in TERMINAL for row in behind or messages[mine - 1 : mine])


def judge_remark(remark: Remark, answer_id: str, answer: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong. `answer`: the row of the answer that ran."""
    steps = [each for each in answer.get("parts") or () if each.get("type") == "step"]
    named = sum(remark.message_id in step.get("message_ids", ()) for step in steps)
    row = remark.row
    if remark.log is not None and (remark.log.faults or len(remark.log.terminals) > 1):
        yield f"remark: its log has {len(remark.log.terminals)} ends, {remark.log.faults}"
    if remark.steers is None:
        if (row.get("status"), row.get("content")) != ("complete", remark.script.text):
            yield f"remark: neither taken in nor answered, but {row.get('status')}"
        if named or remark.reached is not None:
            yield f"remark: answered, and in {named} steps"
    else:
        if (remark.steers, row.get("status")) != (answer_id, "cancelled"):
            yield f"remark: taken in by {remark.steers}, its own answer is {row.get('status')}"
        if named != 1 or remark.reached is None:
            yield f"remark: taken in, and in {named} steps (of the model's: {remark.reached})"
