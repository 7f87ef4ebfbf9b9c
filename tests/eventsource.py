"""An EventSource for tests, written from the HTML standard alone (section 9.2)."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Event:
    """The contents of a MessageEvent."""

    type: str
    data: str
    last_event_id: str

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.data)
        return value


class Parser:
    """9.2.6: interpreting an event stream."""

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry_ms: int | None = None
        self.comments: list[str] = []
        self._id, self._data, self._type = last_event_id, "", ""
        self._rest = b""

    def push(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. This server ends lines with LF alone, which is
        asserted.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        assert not any(b"\r" in line for line in lines)
        return [event for line in lines if (event := self._line(line.decode())) is not None]

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            self.comments.append(value)
        elif name == "event":
            self._type = value
        elif name == "data":
            self._data += value + "\n"
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = int(value)
        return None

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        data, kind = self._data, self._type
        self._data = self._type = ""
        return (
            Event(kind or "message", data.removesuffix("\n"), self.last_event_id) if data else None
        )


class Failed(Exception):
    """The EventSource is closed for good (an answer that is no event stream)."""

    def __init__(self, status: int) -> None:
        super().__init__(f"answered {status}")
        self.status = status


class EventSource:
    """9.2.3: connects, reconnects with Last-Event-ID, gives up on anything but 200 and
    text/event-stream.
    """

    def __init__(
        self, client: httpx.AsyncClient, address: str, headers: dict[str, str] | None = None
    ) -> None:
        self._client, self.address, self._headers = client, address, headers or {}
        self.last_event_id = ""
        self.connections = 0
        self.comments: list[str] = []
        self.headers: httpx.Headers | None = None
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """The network fails now."""
        self._cut.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            try:
                async for event in self._connection():
                    yield event
            except httpx.TransportError:  # a network error: it reconnects, as after an end
                pass
            await asyncio.sleep(0.02)

    async def _connection(self) -> AsyncIterator[Event]:
        self.connections += 1
        self._cut.clear()
        headers = self._headers | {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self.last_event_id:
            headers["Last-Event-ID"] = self.last_event_id
        async with self._client.stream(
            "GET", self.address, headers=headers, timeout=PATIENCE_SECONDS
        ) as answer:
            if answer.status_code != 200 or not answer.headers["content-type"].startswith(
                "text/event-stream"
            ):
                raise Failed(answer.status_code)
            self.headers = answer.headers
            parser = Parser(self.last_event_id)
            parser.comments = self.comments
            async for data in answer.aiter_raw():
                for event in parser.push(data):
                    self.last_event_id = parser.last_event_id
                    yield event
                    if self._cut.is_set():
                        return
                self.last_event_id = parser.last_event_id
