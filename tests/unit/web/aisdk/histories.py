"""Made-up logs of one answer, and what its row holds at every seq."""

import random
from typing import Any

from tokenwire.protocol import events
from tokenwire.protocol.text import checksum, utf16_length

ID, CONVERSATION = "message", "conversation"
WORDS = ("Hello", " wörld", " 🦉", "\n\n", " and", " 日本")


def row(**changes: Any) -> dict[str, Any]:
    """A row in its wire form."""
    held = {
        "id": ID,
        "conversation_id": CONVERSATION,
        "ordinal": 2,
        "role": "assistant",
        "content": "",
        "reasoning": "",
        "status": "queued",
        "seq": 0,
        "attempt": 0,
        "rev": 1,
        "model": "demo",
        "finish_reason": None,
        "error": None,
        "usage": None,
        "user_id": None,
        "parent_id": "user",
        "tool_calls": [],
        "attachments": [],
        "created_at": "2026-08-01T12:00:00.000Z",
        "updated_at": "2026-08-01T12:00:00.000Z",
    }
    return held | changes


class History:
    """`events`: (seq, event); `rows[seq]`: the row that holds everything up to seq."""

    def __init__(self, seed: int, steps: int = 40) -> None:
        self._choose = random.Random(seed)
        self._row = row()
        self._attempt = 0
        self.rows = {0: row()}
        self.events: list[tuple[int, events.AnyEvent]] = []
        self._start()
        for _ in range(steps):
            self._choose.choice(
                [self._text] * 6
                + [self._reason] * 3
                + [self._call, self._answer, self._cite, self._fail, self._other]
            )()
        self._end()

    def _add(self, event: events.AnyEvent, **changes: Any) -> None:
        seq = len(self.events) + 1
        self.events.append((seq, event))
        self._row = self._row | changes | {"seq": seq}
        self.rows[seq] = dict(self._row)

    def _start(self) -> None:
        self._attempt += 1
        self._add(
            events.Start(ID, self._attempt, "demo"), attempt=self._attempt, status="streaming"
        )

    def _text(self) -> None:
        word, content = self._choose.choice(WORDS), self._row["content"]
        self._add(
            events.Chunk(ID, self._attempt, utf16_length(content), word), content=content + word
        )

    def _reason(self) -> None:
        word, reasoning = self._choose.choice(WORDS), self._row["reasoning"]
        self._add(
            events.Reasoning(ID, self._attempt, utf16_length(reasoning), word),
            reasoning=reasoning + word,
        )

    def _call(self) -> None:
        call = {
            "tool_call_id": f"call-{len(self.events)}",
            "name": "look",
            "arguments": {"__proto__": 1},
            "status": "pending",
        }
        event = events.ToolCall(
            ID, self._attempt, call["tool_call_id"], call["name"], call["arguments"], "pending"
        )
        self._add(event, tool_calls=[*self._row["tool_calls"], call])

    def _answer(self) -> None:
        pending = [call for call in self._row["tool_calls"] if "result" not in call]
        if pending:
            done = pending[0] | {"result": {"n": 1}, "status": "ok"}
            calls = [done if call is pending[0] else call for call in self._row["tool_calls"]]
            self._add(
                events.ToolResult(ID, self._attempt, done["tool_call_id"], "look", {"n": 1}, "ok"),
                tool_calls=calls,
            )

    def _cite(self) -> None:
        self._add(events.Source(ID, self._attempt, "https://example.com/a", "A"))

    def _fail(self) -> None:
        self._add(events.Retry(ID, self._attempt, "interrupted", 100, 1, 3))
        if self._choose.random() < 0.5:
            self._start()
        else:
            self._attempt += 1
            kept = [call for call in self._row["tool_calls"] if "result" in call]
            text, reasoning = self._beginning("content"), self._beginning("reasoning")
            reset = events.Reset(ID, self._attempt, utf16_length(text), utf16_length(reasoning))
            self._add(
                reset, content=text, reasoning=reasoning, tool_calls=kept, attempt=self._attempt
            )

    def _beginning(self, field: str) -> str:
        whole = self._row[field]
        return whole[: self._choose.choice((0, 0, self._choose.randint(0, len(whole))))]

    def _other(self) -> None:
        self._add(events.Title("A title", 1))
        self._add(events.Chunk("another", 1, 0, "nobody's business"))

    def _end(self) -> None:
        text = self._row["content"]
        usage = events.Usage(1, 2)
        self._add(
            events.Complete(
                ID, self._attempt, "stop", usage, utf16_length(text), checksum(text), []
            ),
            status="complete",
            finish_reason="stop",
            usage={"input_tokens": 1, "output_tokens": 2, "estimated": False},
        )
