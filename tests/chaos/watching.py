"""Readers of one answer, written from PROTOCOL.md alone, that survive everything: absent servers,
cut sockets, resyncs.

Every event is checked (order, offsets, the checksum at the end); `fault` keeps the first violation.
"""

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
import websockets

from tests.e2e.reader import TERMINAL, Reader

ANSWER_SECONDS = 8.0
"""A web process that has been paused accepts connections and does not answer."""

SILENCE_SECONDS = 60.0
"""An event stream that says nothing for so long, not even a comment, is dead."""


class Api:
    """The HTTP API, asked until it answers."""

    def __init__(self, base: str, deadline: float) -> None:
        self.base = base
        self._deadline = deadline
        self.repeated = 0
        self.refusals: list[tuple[float, str]] = []
        """Of each request that was repeated: when it failed (`time.monotonic()`), and how."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(ANSWER_SECONDS),
        )
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        return self._session

    async def once(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON. Raises aiohttp.ClientError or TimeoutError."""
        async with self._session.request(
            method, self.base + path, json=body, headers=headers
        ) as answer:
            return answer.status, await answer.json(content_type=None)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of a success. Retries without a server; raises AssertionError for any other
        failure.
        """
        status, answer = await self.answered(method, path, body, **headers)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {answer}")
        return answer

    async def answered(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON of a success or a refusal. Retries without a server."""
        while True:
            try:
                status, answer = await self.once(method, path, body, **headers)
            except (
                aiohttp.ClientError,
                TimeoutError,
                ConnectionError,
                json.JSONDecodeError,
            ) as error:
                said = f"{method} {path}: {error!r}"
            else:
                if status < 500 and status != 429:
                    return status, answer
                said = f"{method} {path}: {status} {answer}"
            self.refusals.append((time.monotonic(), said))
            if time.monotonic() > self._deadline:
                raise AssertionError(f"no answer until the end: {said}")
            self.repeated += 1
            await asyncio.sleep(0.1 + random.random() * 0.2)


@dataclass
class Watcher(Reader):
    """`manner`: `steady`, `dropping` (every half second or so), `slow` (reads in bursts, with a
    small buffer), `late`.
    """

    api: Api = None  # type: ignore[assignment]  # fields after those with a default need one
    manner: str = "steady"
    fault: str | None = None
    done: bool = False
    first_chunks: dict[int, float] = field(default_factory=dict)
    """attempt -> when its first chunk came (`time.monotonic()`)."""
    resets_seen: list[tuple[int, str | None]] = field(default_factory=list)
    """Of each `reset`: the attempt, and the epoch it came in."""
    terminals: set[str] = field(default_factory=set)
    epochs: list[str] = field(default_factory=list)
    ended_at: float = 0.0
    heard_at: float = 0.0
    silence: float = 0.0
    """The longest time between two pieces of text, in seconds: a person's impression of a
    restart.
    """

    async def watch(self, delay: float = 0) -> "Watcher":
        """Until the answer has ended, or the protocol was broken."""
        try:
            await super().watch(delay)
        except AssertionError as error:
            self.fault = str(error) or "assertion"
        self.done = True
        return self

    async def _snapshot(self) -> None:
        while True:
            answer = await self.api.call("GET", f"/api/conversations/{self.conversation_id}")
            row = next(row for row in answer["messages"] if row["id"] == self.message_id)
            if answer["cursor"] is not None or row["status"] in TERMINAL:
                break
            await asyncio.sleep(0.3)
        self.text, self.reasoning, self.row_seq, self.cursor = (
            row["content"],
            row["reasoning"],
            row["seq"],
            answer["cursor"],
        )
        if row["status"] in TERMINAL:
            self.ended, self.ended_at = row["status"], time.monotonic()

    async def _connect(self) -> None:
        subscription = await self.api.call(
            "POST", f"/api/conversations/{self.conversation_id}/subscription"
        )
        self.connections += 1
        until = (
            None
            if self.drop_seconds is None
            else time.monotonic() + self.drop_seconds * (0.5 + random.random())
        )
        async with self._socket(subscription["url"]) as channel:
            await channel.send(
                json.dumps(
                    {"type": "subscribe", "token": subscription["token"], "after": self.cursor}
                )
            )
            await self._follow(channel, until)

    @contextlib.asynccontextmanager
    async def _socket(self, url: str) -> AsyncIterator[websockets.ClientConnection]:
        options: dict[str, Any] = {
            "compression": None,
            "open_timeout": ANSWER_SECONDS,
            "close_timeout": 0.2,
            "ping_interval": None,
        }
        if self.manner == "slow":
            options |= {"max_queue": (2, 1), "sock": await _narrow_socket(url)}
        async with websockets.connect(url, **options) as channel:
            yield channel

    async def _follow(self, channel: websockets.ClientConnection, until: float | None) -> None:
        epoch, silence, frames = "", 30.0, 0
        while self.ended is None:
            left = silence if until is None else max(0.0, until - time.monotonic())
            frame = json.loads(await asyncio.wait_for(channel.recv(), left))
            frames += 1
            if frame["type"] == "subscribed":
                epoch, silence = frame["epoch"], frame["heartbeat_seconds"]
                self._adopt(epoch)
            elif frame["type"] == "resync":
                self.resyncs += 1
                await asyncio.sleep(random.random() / 2)
                await self._snapshot()
                return
            elif frame["type"] == "heartbeat":
                if self.cursor is not None and self.cursor != f"{frame['epoch']}:{frame['seq']}":
                    return  # as told: reconnect with the cursor
            elif frame["type"] != "live":
                self._event(epoch, frame)
            if self.manner == "slow" and frames % 20 == 0:
                await asyncio.sleep(1.0)

    def _event(self, epoch: str, event: dict[str, Any]) -> None:
        super()._event(epoch, event)
        self.seen.clear()
        if event.get("message_id") != self.message_id:
            return
        if event["type"] == "chunk":
            now = time.monotonic()
            self.first_chunks.setdefault(event["attempt"], now)
            self.silence = max(self.silence, now - (self.heard_at or now))
            self.heard_at = now
        elif event["type"] == "reset":
            self.resets_seen.append((event["attempt"], epoch))
        elif event["type"] in TERMINAL:
            self.terminals.add(f"{epoch}:{event['seq']}")
            self.ended_at = time.monotonic()


@dataclass
class EventStreamWatcher(Watcher):
    """The same over server-sent events (PROTOCOL.md, section 5)."""

    async def _connect(self) -> None:
        self.connections += 1
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        url = f"{self.api.base}/api/conversations/{self.conversation_id}/events"
        timeout = aiohttp.ClientTimeout(
            None, sock_connect=ANSWER_SECONDS, sock_read=SILENCE_SECONDS
        )
        try:
            async with self.api.session.get(url, headers=headers, timeout=timeout) as answer:
                if answer.status != 200:
                    if answer.status < 500 and answer.status != 429:
                        raise AssertionError(f"event stream: {answer.status} {await answer.text()}")
                    raise OSError(f"event stream: {answer.status}")
                await self._follow_lines(answer)
        except aiohttp.ClientError as error:
            raise OSError(str(error)) from error

    async def _follow_lines(self, answer: aiohttp.ClientResponse) -> None:
        identity, data = "", ""
        async for raw in answer.content:
            line = raw.decode().rstrip("\r\n")
            name, _, value = line.partition(":")
            if name == "id":
                identity = value.strip()
            elif name == "data":
                data = value.removeprefix(" ")
            elif not line and data:
                event = json.loads(data)
                if event["type"] == "resync":
                    self.resyncs += 1
                    await asyncio.sleep(random.random() / 2)
                    await self._snapshot()
                    return
                self._adopt(identity.rpartition(":")[0])
                self._event(identity.rpartition(":")[0], event)
                identity, data = "", ""
            if self.ended:
                return


async def _narrow_socket(url: str) -> socket.socket:
    parts = urlsplit(url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    try:
        await asyncio.wait_for(
            asyncio.get_running_loop().sock_connect(narrow, (parts.hostname, parts.port)),
            ANSWER_SECONDS,
        )
    except BaseException:
        narrow.close()
        raise
    return narrow
