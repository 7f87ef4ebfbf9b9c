"""A server in memory for the page, which sends what a test wants and breaks on demand.

test_page.py tests the page on the real stack. This one does what the real stack does not do on
demand: a model that writes markup, events in the wrong order, frequently cut sockets, a post whose
answer is lost.
"""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from tokenwire.protocol import events
from tokenwire.protocol.fold import Answer

STATIC = Path(__file__).parents[2] / "web" / "page" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "
    "'self' ws: wss:; form-action 'none'"
)
Json = dict[str, Any]


@dataclass
class Faults:
    """Probabilities per event, between 0 and 1."""

    reorder: float = 0.0
    repeat: float = 0.0
    drop: float = 0.0
    cut: float = 0.0


@dataclass
class Thread:
    """One conversation with its log and its readers."""

    row: Json
    messages: list[Json] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)  # by the ids of their rows
    sockets: set[web.WebSocketResponse] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class StandIn:
    """`answers` maps a post's content to the events or the text of its answer; others get
    `default`.
    """

    def __init__(self) -> None:
        self.threads: dict[str, Thread] = {}
        self.answers: dict[str, str | list[Json]] = {}
        self.default = "Hello from the stand-in."
        self.pause_s = 0.02
        self.faults = Faults()
        self.lose_post_answers = 0
        self.posts: dict[str, Json] = {}
        self.chance = random.Random(1)  # repeatable faults
        self.tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.title_after: str | None = None
        self.made = 0  # rows that were created and then replaced
        self.feeds = True
        self.readers: set[web.StreamResponse] = set()
        self.page = 200
        self.listed = 40

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator["StandIn"]:
        runner = web.AppRunner(self._app(), shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await runner.cleanup()

    def _app(self) -> web.Application:
        app = web.Application(middlewares=[_secure])
        app.router.add_get("/", self._page)
        app.router.add_static("/static", STATIC)
        app.router.add_get("/api/me", self._me)
        app.router.add_get("/api/models", self._models)
        app.router.add_get("/api/conversations", self._list)
        app.router.add_post("/api/conversations", self._create)
        app.router.add_get("/api/conversations/{id}", self._read)
        app.router.add_patch("/api/conversations/{id}", self._change)
        app.router.add_delete("/api/conversations/{id}", self._delete)
        app.router.add_post("/api/conversations/{id}/messages", self._post)
        app.router.add_post("/api/conversations/{id}/subscription", self._subscription)
        app.router.add_post("/api/conversations/{id}/cancel", self._cancel)
        app.router.add_post("/api/messages/{id}/regenerate", self._regenerate)
        app.router.add_get("/api/feed", self._feed)
        app.router.add_get("/ws/{id}", self._socket)
        return app

    async def _page(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(STATIC / "index.html")

    async def _me(self, _request: web.Request) -> web.Response:
        return web.json_response({"user_id": "local"})

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {"default": "demo", "models": [{"name": "demo"}, {"name": "gpt-4o-mini"}]}
        )

    async def _list(self, request: web.Request) -> web.Response:
        before = int(request.query.get("before", 2**63))
        rows = sorted(
            (thread.row for thread in self.threads.values()), key=lambda row: -row["updated_at"]
        )
        rows = [row for row in rows if row["updated_at"] < before]
        shown = rows[: self.listed]
        return web.json_response(
            {
                "conversations": shown,
                "next": str(shown[-1]["updated_at"]) if len(rows) > len(shown) else None,
            }
        )

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        return web.json_response(
            self.add(body.get("title"), body.get("model", "demo")).row, status=201
        )

    def add(self, title: str | None = None, model: str = "demo") -> Thread:
        now = int(time.time() * 1000) + len(self.threads)
        row = {
            "id": f"c{len(self.threads) + 1}",
            "title": title,
            "model": model,
            "rev": 1,
            "created_at": now,
            "updated_at": now,
        }
        self.threads[row["id"]] = Thread(row)
        return self.threads[row["id"]]

    def _thread(self, request: web.Request) -> Thread:
        thread = self.threads.get(request.match_info["id"])
        if thread is None:
            problem = {
                "code": "not_found",
                "title": "Not found",
                "detail": "There is no such conversation.",
                "status": 404,
            }
            raise web.HTTPNotFound(
                text=json.dumps(problem), content_type="application/problem+json"
            )
        return thread

    async def _read(self, request: web.Request) -> web.Response:
        thread = self._thread(request)
        before = int(request.query.get("before", 1_000_000))
        rows = [row for row in thread.messages if row["ordinal"] < before]
        shown = rows[-self.page :]
        following = shown[0]["ordinal"] if len(rows) > len(shown) else None
        return web.json_response(
            {
                "conversation": thread.row,
                "messages": shown,
                "next": following,
                "cursor": f"e1:{len(thread.events)}",
            }
        )

    async def _change(self, request: web.Request) -> web.Response:
        thread = self._thread(request)
        thread.row.update(await request.json())
        thread.row["rev"] += 1
        self.append(
            thread, {"type": "title", "title": thread.row["title"], "rev": thread.row["rev"]}
        )
        return web.json_response(thread.row)

    async def _delete(self, request: web.Request) -> web.Response:
        thread = self._thread(request)
        del self.threads[thread.row["id"]]
        for socket in list(thread.sockets):
            await socket.close(code=4404)
        return web.Response(status=204)

    async def _subscription(self, request: web.Request) -> web.Response:
        thread = self._thread(request)
        return web.json_response(
            {
                "url": f"{self.url.replace('http', 'ws')}/ws/{thread.row['id']}",
                "token": "t",
                "expires_in": 600,
            }
        )

    async def _post(self, request: web.Request) -> web.Response:
        thread, body, key = (
            self._thread(request),
            await request.json(),
            request.headers["Idempotency-Key"],
        )
        if key not in self.posts:
            self.posts[key] = self._accept(thread, body["content"])
        if self.lose_post_answers > 0:
            self.lose_post_answers -= 1
            raise web.HTTPServiceUnavailable(
                text=json.dumps({"code": "unavailable", "detail": "Please try again."})
            )
        return web.json_response(self.posts[key], status=202)

    def _accept(self, thread: Thread, content: str) -> Json:
        user = self.message(thread, "user", content, "complete", user_id="local")
        answer = self.message(thread, "assistant", "", "queued")
        accepted = {
            "user_message": dict(user),
            "assistant_message": dict(answer),
            "cursor": f"e1:{len(thread.events) - 2}",
        }
        task = asyncio.ensure_future(
            self._answer(thread, answer, self.answers.get(content, self.default))
        )
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return accepted

    async def _regenerate(self, request: web.Request) -> web.Response:
        thread = self.threads[request.match_info["id"].split("-")[0]]
        at = next(
            n for n, row in enumerate(thread.messages) if row["id"] == request.match_info["id"]
        )
        user = thread.messages[at - 1]
        self.made += len(thread.messages) - at
        del thread.messages[at:]
        answer = self.message(thread, "assistant", "", "queued", parent_id=user["id"])
        task = asyncio.ensure_future(
            self._answer(thread, answer, self.answers.get(user["content"], self.default))
        )
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return web.json_response({"user_message": user, "assistant_message": answer}, status=202)

    async def _feed(self, request: web.Request) -> web.StreamResponse:
        if not self.feeds:
            raise web.HTTPServiceUnavailable
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        rows = sorted(
            (thread.row for thread in self.threads.values()), key=lambda row: -row["updated_at"]
        )
        self.readers.add(response)
        try:
            await response.write(
                _block(
                    {
                        "type": "snapshot",
                        "conversations": [{**row, "running": False} for row in rows],
                    }
                )
            )
            await asyncio.Event().wait()
        finally:
            self.readers.discard(response)
        return response

    async def tell(self, event: Json) -> None:
        """Send an event in every feed."""
        for reader in list(self.readers):
            with contextlib.suppress(ConnectionResetError):  # that page is closed
                await reader.write(_block(event))

    def message(
        self,
        thread: Thread,
        role: str,
        content: str,
        status: str,
        user_id: str | None = None,
        parent_id: str | None = None,
    ) -> Json:
        """A new row, announced in the log. Without a parent it follows the one before."""
        number = len(thread.messages) + self.made + 1
        follows = thread.messages[-1]["id"] if thread.messages else None
        row: Json = {
            "id": f"{thread.row['id']}-m{number}",
            "conversation_id": thread.row["id"],
            "parent_id": parent_id or follows,
        }
        row |= {
            "ordinal": number,
            "role": role,
            "content": content,
            "reasoning": "",
            "status": status,
            "seq": 0,
        }
        row |= {
            "attempt": 0,
            "rev": 1,
            "model": thread.row["model"],
            "user_id": user_id,
            "error": None,
            "usage": None,
        }
        thread.messages.append(row)
        self.append(thread, {"type": "message", "message": dict(row)})
        return row

    async def _answer(self, thread: Thread, row: Json, script: str | list[Json]) -> None:
        await asyncio.sleep(self.pause_s * 5)
        events = [
            {"type": "start", "model": "demo"},
            *([{"content": script}] if isinstance(script, str) else script),
        ]
        ended = False
        for event in events:
            for piece in _pieces(event):
                if row["status"] == "cancelled":
                    return
                self._advance(thread, row, piece)
                ended = ended or piece.get("type") in ("error", "complete")
                await asyncio.sleep(piece.get("delay_ms", 0) / 1000 or self.pause_s)
        if not ended:
            self.end(
                thread,
                row,
                "complete",
                finish_reason="stop",
                usage={"output_tokens": 42, "estimated": True},
            )
        if self.title_after:
            thread.row.update(title=self.title_after, rev=thread.row["rev"] + 1)
            self.append(
                thread, {"type": "title", "title": self.title_after, "rev": thread.row["rev"]}
            )

    def _advance(self, thread: Thread, row: Json, event: Json) -> None:
        kind = event.get("type", "chunk")
        if kind in ("error", "complete"):
            said = {name: value for name, value in event.items() if name != "type"}
            self.end(thread, row, kind, **said)
            return
        answer = thread.answers.setdefault(row["id"], Answer(row["id"]))
        event = {"message_id": row["id"], "attempt": 1, **_placed(answer, event)}
        seq = self.append(thread, event)
        answer.apply(events.convert(event))  # type: ignore[arg-type]  # its type is known
        row.update(_held(answer), seq=seq)

    def end(self, thread: Thread, row: Json, status: str, **fields: Any) -> None:
        """Store the end, then announce it."""
        answer = thread.answers.setdefault(row["id"], Answer(row["id"]))
        proof = answer.proof()._asdict()
        answer.close_calls(status, fields.get("finish_reason"))
        row.update(_held(answer), status=status)
        if status == "error":
            row["error"] = {name: fields.get(name) for name in ("code", "error", "retryable")}
        event = {"type": status, "message_id": row["id"], "attempt": 1, "usage": None}
        self.append(thread, {**event, **fields, **proof})

    async def _cancel(self, request: web.Request) -> web.Response:
        thread = self._thread(request)
        for row in thread.messages:
            if row["role"] == "assistant" and row["status"] in ("queued", "streaming", "retrying"):
                self.end(thread, row, "cancelled", by="local")
        return web.json_response({}, status=202)

    def append(self, thread: Thread, event: Json) -> int:
        """Append an event to the log; its seq."""
        thread.events.append({"seq": len(thread.events) + 1, **event})
        thread.wake.set()
        thread.wake = asyncio.Event()
        return len(thread.events)

    async def cut(self, code: int = 1012) -> None:
        """Close every socket."""
        for thread in self.threads.values():
            for socket in list(thread.sockets):
                await socket.close(code=code)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        thread = self._thread(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        hello = await socket.receive_json()
        cursor = int(hello["after"].split(":")[1])
        thread.sockets.add(socket)
        sender = asyncio.ensure_future(self._send(thread, socket, cursor))
        try:
            async for frame in socket:
                if frame.type == WSMsgType.TEXT and "refresh" in frame.data:
                    await socket.send_json({"type": "refreshed", "expires_in": 600})
        finally:
            thread.sockets.discard(socket)
            sender.cancel()
        return socket

    async def _send(self, thread: Thread, socket: web.WebSocketResponse, cursor: int) -> None:
        top = len(thread.events)
        await socket.send_json(
            {"type": "subscribed", "epoch": "e1", "seq": top, "heartbeat_seconds": 30, "version": 1}
        )
        live = False
        while not socket.closed:
            woken = thread.wake
            while cursor < len(thread.events):
                event = thread.events[cursor]
                cursor += 1
                if self.chance.random() < self.faults.cut:
                    await socket.close(code=1011)
                    return
                await self._deliver(socket, event)
            if not live:
                live = True
                await socket.send_json({"type": "live", "epoch": "e1", "seq": cursor})
            try:
                await asyncio.wait_for(woken.wait(), 2)
            except TimeoutError:
                await socket.send_json({"type": "heartbeat", "epoch": "e1", "seq": cursor})

    async def _deliver(self, socket: web.WebSocketResponse, event: Json) -> None:
        if self.chance.random() < self.faults.drop:
            return
        if self.chance.random() < self.faults.reorder:
            asyncio.get_running_loop().call_later(0.08, self._send_late, socket, event)
            return
        for _ in range(2 if self.chance.random() < self.faults.repeat else 1):
            await socket.send_json(event)

    def _send_late(self, socket: web.WebSocketResponse, event: Json) -> None:
        if not socket.closed:
            task = asyncio.ensure_future(socket.send_json(event))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)


def _block(event: Json) -> bytes:
    return f"data: {json.dumps(event)}\n\n".encode()


_PIECES = ("chunk", "reasoning", "tool_input")


def _placed(answer: Answer, event: Json) -> Json:
    """An event of a script, with the part that it is about and its offset."""
    kind, parts = event.get("type", "chunk"), answer.parts
    if kind in ("chunk", "reasoning"):
        number = answer.open_text if kind == "chunk" else answer.open_reasoning
        offset = answer.content_units if kind == "chunk" else answer.reasoning_units
        place = {"part": len(parts) if number is None else number, "offset": offset}
        return {"type": kind, **place, "content": event["content"]}
    if kind == "tool_input":
        number = event.get("part", len(parts) - 1)
        return {**event, "part": number, "offset": parts[number].units}
    if kind == "part":
        number = event.get("part", len(parts))
        return {**event, "part": number if number >= 0 else len(parts) + number}
    return event


def _held(answer: Answer) -> Json:
    """The fields of a row that follow from its parts."""
    texts = {"content": answer.content, "reasoning": answer.reasoning}
    return {**texts, "parts": answer.layout(), "status": answer.status}


def _pieces(event: Json) -> list[Json]:
    """Text in pieces of a few characters, as a model streams it."""
    if event.get("type", "chunk") not in _PIECES:
        return [event]
    text = event["content"]
    return [{**event, "content": text[at : at + 6]} for at in range(0, len(text), 6)]


@web.middleware
async def _secure(request: web.Request, handler: Any) -> web.StreamResponse:
    response: web.StreamResponse = await handler(request)
    response.headers["Content-Security-Policy"] = CSP
    return response
