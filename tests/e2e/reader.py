"""A reader written from PROTOCOL.md alone, without shared code, so that it can disagree with the
project.
"""

import asyncio
import json
import random
import time
import urllib.error
import urllib.request
import zlib
from dataclasses import dataclass, field
from typing import Any

import websockets

TERMINAL = ("complete", "error", "cancelled")


def call(base: str, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """One API call: status and JSON."""
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        base + path, data, {"content-type": "application/json", **headers}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


async def acall(
    base: str, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    """The same without blocking the loop."""
    return await asyncio.to_thread(call, base, method, path, body, **headers)


async def post(base: str, content: str, model: str | None = None) -> dict[str, Any]:
    """A new conversation with one post; the answer of the post."""
    _, conversation = await acall(
        base, "POST", "/api/conversations", {"model": model} if model else {}
    )
    status, posted = await acall(
        base, "POST", f"/api/conversations/{conversation['id']}/messages", {"content": content}
    )
    if status != 202:
        raise AssertionError(posted)
    return dict(posted)


def units(text: str) -> int:
    """The number of UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


def head(text: str, count: int) -> str:
    """The first UTF-16 code units, that many."""
    return text.encode("utf-16-le")[: count * 2].decode("utf-16-le")


def tail(text: str, count: int) -> str:
    """All but the first UTF-16 code units, that many."""
    return text.encode("utf-16-le")[count * 2 :].decode("utf-16-le")


@dataclass
class Reader:
    """Follows one answer to its end, and closes its socket every `drop_seconds` if given. Raises
    AssertionError if the protocol is broken.
    """

    base: str
    conversation_id: str
    message_id: str
    drop_seconds: float | None = None
    text: str = ""
    reasoning: str = ""
    ended: str | None = None
    terminal: dict[str, Any] | None = None
    connections: int = 0
    resyncs: int = 0
    resets: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    cursor: str | None = None
    row_seq: int = 0

    async def watch(self, delay: float = 0) -> "Reader":
        """Until the answer has ended."""
        await asyncio.sleep(delay)
        await self._snapshot()
        while self.ended is None:
            try:
                await self._connect()
            except (TimeoutError, websockets.WebSocketException, OSError):
                await asyncio.sleep(0.01 + random.random() * 0.02)
        return self

    async def _snapshot(self) -> None:
        status, answer = await acall(self.base, "GET", f"/api/conversations/{self.conversation_id}")
        assert status == 200, answer
        row = next(row for row in answer["messages"] if row["id"] == self.message_id)
        self.text, self.reasoning, self.row_seq, self.cursor = (
            row["content"],
            row["reasoning"],
            row["seq"],
            answer["cursor"],
        )
        if row["status"] in TERMINAL:
            self.ended = row["status"]

    async def _connect(self) -> None:
        status, subscription = await acall(
            self.base, "POST", f"/api/conversations/{self.conversation_id}/subscription"
        )
        assert status == 200, subscription
        self.connections += 1
        until = None if self.drop_seconds is None else time.monotonic() + self.drop_seconds
        async with websockets.connect(subscription["url"], compression=None) as socket:
            await socket.send(
                json.dumps(
                    {"type": "subscribe", "token": subscription["token"], "after": self.cursor}
                )
            )
            epoch = ""
            while self.ended is None:
                left = None if until is None else max(0.0, until - time.monotonic())
                frame = json.loads(await asyncio.wait_for(socket.recv(), left))
                if frame["type"] == "subscribed":
                    epoch = frame["epoch"]
                    self._adopt(epoch)
                elif frame["type"] == "resync":
                    self.resyncs += 1
                    await asyncio.sleep(random.random() / 2)
                    await self._snapshot()
                    return
                elif frame["type"] not in ("live", "heartbeat"):
                    self._event(epoch, frame)

    def _adopt(self, epoch: str) -> None:
        """The cursor is valid in this epoch too; otherwise `resync` would have come."""
        if self.cursor is not None:
            self.cursor = f"{epoch}:{self.cursor.partition(':')[2]}"

    def _event(self, epoch: str, event: dict[str, Any]) -> None:
        first = event.get("from_seq", event["seq"])
        if self.cursor is not None:
            assert self.cursor == f"{epoch}:{first - 1}", f"after {self.cursor} came {event}"
        self.cursor = f"{epoch}:{event['seq']}"
        if event.get("message_id") != self.message_id or event["seq"] <= self.row_seq:
            return
        self.seen.append(event)
        if event["type"] == "chunk":
            self.text = self._put(self.text, event)
        elif event["type"] == "reasoning":
            self.reasoning = self._put(self.reasoning, event)
        elif event["type"] == "reset":
            self.resets += 1
            self.text, self.reasoning = (
                head(self.text, event["keep"]),
                head(self.reasoning, event["keep_reasoning"]),
            )
        elif event["type"] in TERMINAL:
            assert (event["length"], event["crc32"]) == (
                units(self.text),
                zlib.crc32(self.text.encode()),
            ), event
            self.ended, self.terminal = event["type"], event

    @staticmethod
    def _put(text: str, event: dict[str, Any]) -> str:
        held = units(text)
        assert event["offset"] <= held, f"a hole: {held} units held, {event}"
        return text + tail(event["content"], held - event["offset"])
