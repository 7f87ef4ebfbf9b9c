"""A conversation's log behind a hostile server.

A WebSocket server whose frames are reordered, repeated, delayed or dropped, and whose connections
are cut. Its promises (`live`, `heartbeat`) stay true, as the protocol requires. Written from
PROTOCOL.md.
"""

import asyncio
import contextlib
import json
import random
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

WORDS = ["tide ", "log, ", "🚀 ", "žluťoučký ", "\n\n- ", "**so** ", "👩‍👩‍👧 ", "and ", "`x` "]

Event = dict[str, Any]


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def answer(message_id: str, chance: random.Random, pieces: int = 60) -> tuple[list[Event], str]:
    """The script of an answer: events without seq, and the text that they add up to."""
    about = {"message_id": message_id, "attempt": 1}
    events: list[Event] = [{"type": "start", **about, "model": "demo"}]
    text = ""
    for _ in range(pieces):
        if chance.random() < 0.04:
            text = text if chance.random() < 0.5 else ""
            events.append(
                {
                    "type": "retry",
                    **about,
                    "code": "rate_limited",
                    "delay_ms": 10,
                    "try": 1,
                    "max_tries": 3,
                }
            )
            kept = {"keep": units(text), "keep_reasoning": 0, "keep_parts": 1 if text else 0}
            events.append({"type": "reset", **about, **kept})
        piece = chance.choice(WORDS)
        place = {"part": 0, "offset": units(text)}
        events.append({"type": "chunk", **about, **place, "content": piece})
        text += piece
    layout = f"text\0{units(text)}\0".encode()
    proof = {"length": units(text), "crc32": zlib.crc32(text.encode())}
    proof |= {"parts": 1, "parts_crc32": zlib.crc32(layout)}
    return [
        *events,
        {"type": "complete", **about, "finish_reason": "stop", "usage": None, "seams": [], **proof},
    ], text


@dataclass
class Faults:
    """Probabilities for each frame (`refuse`: for each connection)."""

    reorder: float = 0
    repeat: float = 0
    drop: float = 0
    cut: float = 0
    refuse: float = 0
    codes: tuple[int, ...] = (1012, 1011, 1013)


@dataclass
class Hostile:
    """Log, rows and both servers in one object. `transport` answers for the web app."""

    chance: random.Random
    faults: Faults
    heartbeat_seconds: float = 0.05
    epoch: str = "e1"
    events: list[Event] = field(default_factory=list)
    rows: list[Event] = field(default_factory=list)
    sockets: set["Socket"] = field(default_factory=set)
    token: int = 1
    refuses: bool = False
    """No token is valid: the broadcaster has another key or another clock."""
    expires_in: float = 600
    loads: int = 0
    grants: int = 0
    connections: int = 0
    refreshes: list[str] = field(default_factory=list)
    away: int = 0
    """The number of requests to answer with 503."""
    port: int = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Hostile"]:
        async with serve(self._connected, "127.0.0.1", 0) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self

    def row(self, **fields: Any) -> Event:
        row = {
            "ordinal": len(self.rows) + 1,
            "role": "assistant",
            "content": "",
            "reasoning": "",
            "status": "queued",
            "seq": 0,
            "rev": 1,
        }
        self.rows.append(row | {"parent_id": None, "model": None} | fields)
        return self.rows[-1]

    def append(self, event: Event) -> None:
        self.events.append({"seq": len(self.events) + 1, **event})
        for socket in self.sockets:
            socket.deliver(self.events[-1])

    async def play(self, events: list[Event], pause_seconds: float = 0.003) -> None:
        for event in events:
            self.append(event)
            await asyncio.sleep(pause_seconds)

    async def lose_log(self, restated: list[Event]) -> None:
        """Begin a new epoch with these events."""
        self.epoch = f"e{int(self.epoch[1:]) + 1}"
        self.events = []
        for row in self.rows:
            row["seq"] = 0
        for socket in tuple(self.sockets):
            await socket.end(4410, {"type": "resync", "reason": "epoch"})
        for event in restated:
            self.append(event)

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            self.away -= 1
            return httpx.Response(
                503, headers={"retry-after": "0"}, json={"code": "unavailable", "detail": "away"}
            )
        if request.method == "GET":
            self.loads += 1
            cursor = (
                f"{self.epoch}:{len(self.events)}"
                if not any(row["status"] == "streaming" for row in self.rows)
                else f"{self.epoch}:0"
            )
            body = {
                "conversation": {"id": "c1", "rev": 1},
                "messages": self.rows,
                "next": None,
                "cursor": cursor,
            }
            return httpx.Response(200, json=json.loads(json.dumps(body)))
        self.grants += 1
        return httpx.Response(
            200,
            json={
                "url": f"ws://127.0.0.1:{self.port}/",
                "token": f"t{self.token}",
                "expires_in": self.expires_in,
            },
        )

    async def _connected(self, connection: ServerConnection) -> None:
        self.connections += 1
        if self.chance.random() < self.faults.refuse:
            await connection.close(1013)
            return
        socket = Socket(self, connection)
        with contextlib.suppress(ConnectionClosed):
            await socket.run()
        await socket.aclose()


class Socket:
    """One connection."""

    def __init__(self, server: Hostile, connection: ServerConnection) -> None:
        self._server, self._connection = server, connection
        self._tasks: set[asyncio.Task[None]] = set()
        self._late = 0

    async def run(self) -> None:
        server = self._server
        first = json.loads(await self._connection.recv())
        if server.refuses or first["token"] != f"t{server.token}":
            await self._connection.close(4401)
            return
        epoch, _, seq = first["after"].partition(":")
        top = len(server.events)
        await self._send(
            {
                "type": "subscribed",
                "epoch": server.epoch,
                "seq": top,
                "heartbeat_seconds": 1,
                "version": 1,
            }
        )
        if epoch != server.epoch or int(seq) > top:
            await self.end(4410, {"type": "resync", "reason": "epoch"})
            return
        server.sockets.add(self)
        for event in server.events[int(seq) :]:
            self.deliver(event)
        self._do(self._promise("live"))
        self._do(self._beat())
        async for frame in self._connection:
            server.refreshes.append(json.loads(frame)["token"])
            await self._send({"type": "refreshed", "expires_in": server.expires_in})

    def deliver(self, event: Event) -> None:
        server = self._server
        if server.chance.random() < server.faults.cut:
            self._do(self.end(server.chance.choice(server.faults.codes)))
        if server.chance.random() >= server.faults.drop:
            self._late += 1
            self._do(self._later(event, server.faults.reorder))
        if server.chance.random() < server.faults.repeat:
            self._late += 1
            self._do(self._later(event, 1.0))

    async def end(self, code: int, last: Event | None = None) -> None:
        self._server.sockets.discard(self)
        with contextlib.suppress(ConnectionClosed):
            if last is not None:
                await self._send(last)
            await self._connection.close(code)

    async def aclose(self) -> None:
        self._server.sockets.discard(self)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._server.heartbeat_seconds)
            await self._promise("heartbeat")

    async def _promise(self, kind: str) -> None:
        """All earlier events count as sent: delayed ones are sent first, dropped ones count."""
        while self._late:
            await asyncio.sleep(0.005)
        await self._send(
            {"type": kind, "epoch": self._server.epoch, "seq": len(self._server.events)}
        )

    async def _later(self, event: Event, reorder: float) -> None:
        try:
            if self._server.chance.random() < reorder:
                await asyncio.sleep(self._server.chance.random() * 0.03)
            await self._send(event)
        finally:
            self._late -= 1

    async def _send(self, frame: Event) -> None:
        await self._connection.send(json.dumps(frame))

    def _do(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(_quietly)


def _quietly(task: "asyncio.Task[None]") -> None:
    """A closed connection is no error of the sender."""
    if (
        not task.cancelled()
        and (error := task.exception()) is not None
        and not isinstance(error, ConnectionClosed)
    ):
        raise error
