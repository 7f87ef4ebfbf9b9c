"""Random conversations for two clients: events that fit and events that do not, rows read again.

Each step has what the Python client makes of it; agree.mjs compares that with tokenwire.js.
"""

import json
import random
from typing import Any, get_args

from tokenwire.client.transcript import LiveMessage, Transcript
from tokenwire.protocol.fold import Answer
from tokenwire.protocol.states import CallState

Json = dict[str, Any]
WORDS = ("a", "é", "👍", "bc", "\n", "xy👋")
TYPES = ("text", "reasoning", "tool_call", "source", "file", "data", "step", "telepathy")
STREAMS = {"chunk": "text", "reasoning": "reasoning", "tool_input": "tool_call"}
KINDS = ("chunk", "chunk", "chunk", "reasoning", "reasoning", "tool_input", "tool_input", "part",
         "part", "part", "part", "reset", "complete", "start", "retry", "wait", "load")  # fmt: skip
ROW: Json = {"id": "m1", "ordinal": 1, "role": "assistant", "rev": 1, "seq": 0, "attempt": 0}


class History:
    """One answer and what happens to it."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._held = Transcript()
        self._held.load(_snapshot(ROW | {"status": "queued"}))

    def steps(self, count: int) -> list[Json]:
        """That many steps, each with its result."""
        return [self._step(seq) for seq in range(1, count)] + [self._took({"live": True}, True)]

    @property
    def _message(self) -> LiveMessage:
        return self._held.messages[0]

    def _step(self, seq: int) -> Json:
        kind = self._random.choice(KINDS)
        answer = self._message.shown
        if kind == "load":
            row = json.loads(json.dumps(self._row(answer)))
            self._held.load(_snapshot(row))
            return self._took({"load": _snapshot(row)}, True)
        event = {"seq": seq, "type": kind, "message_id": "m1", "attempt": 1}
        event |= getattr(self, "_piece" if kind in STREAMS else f"_{kind}")(answer, kind)
        return self._took({"event": event}, self._held.apply(json.loads(json.dumps(event))))

    def _took(self, step: Json, taken: bool) -> Json:
        if "live" in step:
            self._held.release()
        message = self._message
        names = ("status", "content", "reasoning", "proven", "attempt")
        seen = {name: getattr(message, name) for name in names}
        return {**step, "taken": taken, "seen": seen | {"parts": message.shown.layout()}}

    def _some(self, chance: float) -> bool:
        return self._random.random() < chance

    def _number(self, answer: Answer) -> int:
        """Mostly that of the last part or of the next one."""
        held = len(answer.parts)
        return self._random.choice([max(held - 1, 0)] * 4 + [held] * 4 + [0, held + 1])

    def _piece(self, answer: Answer, kind: str) -> Json:
        """Mostly the next one, sometimes of a part again, behind a gap, or without its number."""
        choose, number = self._random.choice, self._number(answer)
        alike = [n for n, part in enumerate(answer.parts) if part.type == STREAMS[kind]]
        if alike and self._some(0.6):
            number = choose(alike)
        content = "".join(choose(WORDS) for _ in range(choose(range(4))))
        offset = answer.content_units if kind == "chunk" else answer.reasoning_units
        if number in alike:
            part = answer.parts[number]
            start = 0 if kind == "tool_input" else part.start
            again = self._some(0.3)
            offset = start if again else start + part.units
            content = part.text + content if again else content
        offset += choose([0, 0, 0, 0, 0, 0, -1, -2, 1])
        named = {} if kind != "tool_input" and self._some(0.05) else {"part": number}
        return {**named, "offset": offset, "content": content}

    def _part(self, answer: Answer, kind: str) -> Json:
        choose, number = self._random.choice, self._number(answer)
        value: Json = {"type": choose(TYPES)}
        if answer.parts and self._some(0.4):
            number = choose(range(len(answer.parts)))
            value = {"type": answer.parts[number].type}
        for name in ("id", "state", "url", "title"):
            if self._some(0.2):
                value[name] = choose([None, "x", "streaming", 1, {"a": None}])
        for name, items in (("at", [None, 0, 3]), ("input", [None, "{}", 5]), ("length", [2])):
            if self._some(0.2):
                value[name] = choose(items)
        if value["type"] == "tool_call" and self._some(0.7):
            value["state"] = choose(["streaming", "streaming", *get_args(CallState)])
            value["runs_at"] = choose([None, "server", "client", "caller"])
            value["expires_at"] = choose([None, "2026-11-22T10:00:00Z"])
        return {"part": number, "value": {} if self._some(0.02) else value}

    def _reset(self, answer: Answer, kind: str) -> Json:
        kept = answer.copy()
        kept.reset(self._random.randint(0, len(answer.parts)))
        less = [self._random.choice([0, 0, 1, 2]) for _ in range(2)]
        keep = max(0, kept.content_units - less[0]), max(0, kept.reasoning_units - less[1])
        more = int(self._some(0.05))
        return {"keep": keep[0], "keep_reasoning": keep[1], "keep_parts": len(kept.parts) + more}

    def _complete(self, answer: Answer, kind: str) -> Json:
        if self._some(0.7):  # early ends make short histories
            return {"type": "telepathy"}
        proof = answer.proof()._asdict()
        if self._some(0.3):
            proof[self._random.choice([*proof])] += 1
        reason = self._random.choice(["stop", "tool_calls"])
        return {"finish_reason": reason, "usage": None, "seams": [], **proof}

    def _start(self, answer: Answer, kind: str) -> Json:
        return {"model": "demo"}

    def _retry(self, answer: Answer, kind: str) -> Json:
        return {"code": "unavailable", "delay_ms": 1, "try": 1, "max_tries": 2}

    def _wait(self, answer: Answer, kind: str) -> Json:
        return {}

    def _row(self, answer: Answer) -> Json:
        """As a checkpoint had it some parts ago, now and then with a damaged layout."""
        row = answer.copy()
        row.reset(self._random.randint(0, len(answer.parts)))
        layout = row.layout()
        if layout and self._some(0.3):
            self._random.choice(layout)["length"] = self._random.choice([0, 1, 50])
        texts = {"content": row.content, "reasoning": row.reasoning, "parts": layout}
        status = self._random.choice(["streaming", "waiting"])
        return {**ROW, **texts, "status": status, "attempt": 1}


def _snapshot(row: Json) -> Json:
    return {"conversation": {"id": "c1", "title": None, "rev": 1}, "messages": [row], "next": None}


def histories(count: int, length: int) -> list[list[Json]]:
    """Each history begins with its first row; the same arguments give the same histories."""
    start = [{"load": _snapshot(ROW | {"status": "queued"})}]
    return [start + History(seed).steps(length) for seed in range(count)]
