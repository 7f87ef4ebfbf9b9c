"""For tests: a broadcaster on a free port, a writer of conversations, and a reader written from
PROTOCOL.md alone.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.answers import answer
from tokenwire.broadcaster.readers import SocketReaders
from tokenwire.broadcaster.server import Caps, Server
from tokenwire.protocol.events import AnyEvent, Chunk, Complete, Start
from tokenwire.protocol.text import utf16_length
from tokenwire.protocol.tokens import AUDIENCE, LEEWAY_SECONDS
from tokenwire.streams.addresses import Addresses
from tokenwire.streams.hub.hub import Hub, RedisPubSub
from tokenwire.streams.hub.room import HeartbeatPace
from tokenwire.streams.log.memory import MemoryLog, MemoryPubSub
from tokenwire.streams.log.ports import Claim, Limits, Log, PubSub
from tokenwire.streams.log.redis import RedisLog

KEY = "0123456789abcdef0123456789abcdef"
PATIENCE_SECONDS = 60.0


async def _always_ready() -> str | None:
    return None


class Stage:
    """A running broadcaster over `log` and `pubsub`."""

    def __init__(
        self,
        log: Log,
        pubsub: PubSub,
        *,
        pace: HeartbeatPace | None = None,
        max_connections: int = 10_000,
        per_user: int | None = None,
        per_address: int | None = None,
        proxies: str = "",
        **caps: Any,
    ) -> None:
        self.log, self.pubsub = log, pubsub
        self.hub = Hub(log, pubsub)
        self.readers = SocketReaders(self.hub, KEY, pace or HeartbeatPace(5.0, 25.0), per_user)
        self.server = Server(
            self.readers,
            _always_ready,
            Caps(max_connections, per_address, Addresses(proxies), **caps),
        )
        self.port = 0

    async def start(self) -> None:
        await self.hub.start()
        self.port = await self.server.start("127.0.0.1", 0)

    async def stop(self) -> None:
        await self.server.stop()
        await self.hub.aclose()
        await self.log.aclose()

    def url(self, conversation: str) -> str:
        return f"ws://127.0.0.1:{self.port}/conversations/{conversation}"

    def socket(self, conversation: str, **options: Any) -> connect:
        """An open socket that has not subscribed."""
        # With a bounded queue, this client stops reading when it is full and cannot notice that it
        # was closed.
        options = {
            "max_queue": None,
            "compression": None,
            "max_size": None,
            "proxy": None,
        } | options
        return connect(self.url(conversation), **options)

    @contextlib.asynccontextmanager
    async def reader(
        self,
        conversation: str,
        after: str | None = None,
        *,
        left: float = 600,
        user: str = "u",
        **options: Any,
    ) -> AsyncIterator["Watching"]:
        async with self.socket(conversation, **options) as socket:
            await socket.send(
                json.dumps(
                    {"type": "subscribe", "token": token(conversation, left, user), "after": after}
                )
            )
            yield Watching(socket)


def token(conversation: str, left: float = 600, user: str = "u") -> str:
    """A token that ends a reader after `left` seconds; the leeway is subtracted."""
    return jwt.encode(
        {
            "sub": user,
            "conv": conversation,
            "exp": time.time() + left - LEEWAY_SECONDS,
            "aud": AUDIENCE,
        },
        KEY,
    )


@contextlib.asynccontextmanager
async def running(stage: Stage) -> AsyncIterator[Stage]:
    await stage.start()
    try:
        yield stage
    finally:
        await stage.stop()


def memory_stage(
    limits: Limits | None = None, **options: Any
) -> contextlib.AbstractAsyncContextManager[Stage]:
    log = MemoryLog(limits)
    return running(Stage(log, MemoryPubSub(log), **options))


def redis_stage(
    url: str, limits: Limits | None = None, **options: Any
) -> contextlib.AbstractAsyncContextManager[Stage]:
    return running(Stage(RedisLog(url, limits), RedisPubSub(url), **options))


def stage_of(
    request: pytest.FixtureRequest, limits: Limits | None = None, **options: Any
) -> contextlib.AbstractAsyncContextManager[Stage]:
    """A fixture with the parameters `memory` and `valkey`."""
    if request.param == "memory":
        return memory_stage(limits, **options)
    return redis_stage(request.getfixturevalue("valkey_url"), limits, **options)


class Writer:
    """One answer of one conversation: appends chunks to the log like a worker."""

    def __init__(self, log: Log, conversation: str, message: str = "m") -> None:
        self._log, self._conversation, self._message = log, conversation, message
        self._claim: Claim | None = None
        self._index = 0
        self.text = ""
        self.epoch, self.seq = "", 0

    async def begin(self) -> "Writer":
        self._claim = await self._log.claim(self._conversation, self._message, 0, 60.0)
        await self._append(Start(self._message, self._claim.attempt, "model"))
        return self

    async def say(self, *pieces: str) -> None:
        events: list[AnyEvent] = []
        for piece in pieces:
            events.append(
                Chunk(self._message, self.claim.attempt, utf16_length(self.text), piece, 0)
            )
            self.text += piece
        await self._append(*events)

    async def end(self) -> None:
        held = answer(self.text, message_id=self._message).proof()
        proof, parts = held[:2], held[2:]
        attempt = self.claim.attempt
        await self._append(Complete(self._message, attempt, "stop", None, *proof, [], *parts))

    @property
    def claim(self) -> Claim:
        if self._claim is None:
            raise RuntimeError("begin first")
        return self._claim

    async def _append(self, *events: AnyEvent) -> None:
        appended = await self._log.append(self.claim, self._index, 0, events)
        self._index += 1
        self.epoch, self.seq = appended.epoch, appended.last_seq


class Watching:
    """The state of a client: checks order, holes and offsets of every frame."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[dict[str, Any]] = []
        self.epoch: str | None = None
        self.seq: int | None = None
        self.live = False
        self.text = ""
        self._base: int | None = None

    @property
    def cursor(self) -> str:
        return f"{self.epoch}:{self.seq}"

    async def next(self) -> dict[str, Any]:
        """One frame, checked."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
        self.frames.append(frame)
        self._take(frame)
        return frame

    async def until(self, kind: str) -> dict[str, Any]:
        """The next frame of this type."""
        while (frame := await self.next())["type"] != kind:
            pass
        return frame

    async def until_seq(self, seq: int) -> None:
        """Everything up to `seq`, and the end of the replay."""
        while not self.live or self.seq is None or self.seq < seq:
            await self.next()

    async def close_code(self) -> int | None:
        """Read to the end."""
        try:
            while True:
                await self.next()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    def _take(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if (
            kind == "subscribed"
            # live again under another name: the server has changed, and its log knows the cursor
        ):
            assert self.epoch != frame["epoch"]
            self.epoch, self.promised, self.live = frame["epoch"], frame["seq"], False
        elif kind in {"live", "heartbeat"}:
            self._take_cursor(frame)
        elif kind not in {"refreshed", "resync"}:
            self._take_event(frame)

    def _take_cursor(self, frame: dict[str, Any]) -> None:
        assert frame["epoch"] == self.epoch
        if self.seq is None:
            self.seq = frame["seq"]
        assert frame["seq"] == self.seq
        if frame["type"] == "live":
            assert not self.live
            assert self.seq is not None
            assert self.seq >= self.promised
            self.live = True
        assert self.live

    def _take_event(self, frame: dict[str, Any]) -> None:
        assert self.epoch is not None
        first = frame.get("from_seq", frame["seq"])
        assert self.seq is None or first == self.seq + 1
        self.seq = frame["seq"]
        if frame["type"] == "chunk":
            self._base = frame["offset"] if self._base is None else self._base
            assert frame["offset"] == self._base + utf16_length(self.text)
            self.text += frame["content"]
