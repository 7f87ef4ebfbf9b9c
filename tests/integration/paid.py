"""A provider that counts its paid runs: background responses and llama.cpp, which continue without
their client until they end.

`text` is the output of a run, piece by piece; `go` lets it write, `named` lets a background
response send its name (at once unless a test clears it). A run is paid once it has begun; `running`
are those that have neither ended nor been ended.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tokenwire.providers.spec import ModelSpec


@dataclass
class Run:
    """One run: its output so far, as bytes of its dialect."""

    name: str
    said: list[bytes] = field(default_factory=list)
    ended: str | None = None
    """`whole`, or `cancelled`."""
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, data: bytes) -> None:
        self.said.append(data)
        self.news.set()
        self.news = asyncio.Event()


@dataclass(frozen=True)
class Instead:
    """The answer to a POST in place of a run's, which continues (`begins`) or never started."""

    status: int
    body: str
    begins: bool = True

    def response(self) -> web.Response:
        kind = (
            "text/html"
            if self.body.startswith("<")
            else "application/json"
            if self.body.startswith("{")
            else "text/plain"
        )
        return web.Response(status=self.status, text=self.body, content_type=kind)


_PAGE = Instead(502, "bad gateway")


@dataclass
class PaidProvider:
    """`dialect`: `responses` or `llamacpp`."""

    dialect: str
    late: bool = False
    """Headers come with the first bytes of a body, as from llama.cpp or a buffering proxy."""
    instead: Instead | None = None
    """The answer to the next POST."""
    down: bool = False
    """A proxy answers 502 to everything."""
    deaf: int = 0
    """The number of POSTs to lose: the connection breaks, and no run begins."""
    pieces: Sequence[str] = ("Hello ", "from ", "a run.")
    runs: dict[str, Run] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Method and path of each request."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    pause_every: int = 0
    """After this many pieces, a run waits for `go` again (0: never): it does not run ahead of a
    test on a slow machine.
    """
    named: asyncio.Event = field(default_factory=asyncio.Event)
    refuse_ends: bool = False
    broken: bool = False
    """The second piece of every run is unreadable."""
    first: int = 1
    """The number of the first piece of a background response."""
    port: int = 0
    _connections: list[asyncio.BaseTransport] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self.named.set()

    @property
    def running(self) -> list[str]:
        return [run.name for run in self.runs.values() if run.ended is None]

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def spec(self) -> ModelSpec:
        """The catalogue entry of a model of this provider."""
        kind, options = (
            ("openai_responses", {"background": True})
            if self.dialect == "responses"
            else ("llamacpp", {"resume": True})
        )
        url = f"http://127.0.0.1:{self.port}/v1"
        return ModelSpec(
            name="m",
            provider=kind,
            model="m",
            base_url=url,
            api_key="k",
            continuation="attach",
            options=options,
        )

    def cut(self) -> None:
        """Close every connection; the runs continue."""
        for connection in self._connections:
            connection.close()

    async def leave(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    # --- what it serves ---

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """POST: a run, paid from now on."""
        self.asked.append(f"POST {request.path}")
        if self.deaf and request.transport is not None:
            self.deaf -= 1
            request.transport.abort()
            return web.Response()
        if self.down:
            return _PAGE.response()
        instead, self.instead = self.instead, None
        if instead is not None and not instead.begins:
            return instead.response()
        name = request.headers.get("x-conversation-id") or f"resp_{len(self.runs)}"
        run = self.runs[name] = Run(name)
        task = asyncio.create_task(self._speak(run))
        self._tasks.add(task)
        return await self._relay(request, run, 0) if instead is None else instead.response()

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """GET: attach to a run after a cursor in it."""
        self.asked.append(f"GET {request.path}")
        if self.down:
            return _PAGE.response()
        run = self.runs.get(request.match_info.get("name") or request.query.get("conv_id", ""))
        if run is None:
            return web.json_response({"error": {"message": "no such run"}}, status=404)
        after = (
            int(request.query["starting_after"]) + 1
            if "starting_after" in request.query
            else int(request.query.get("from", 0))
        )
        return await self._relay(request, run, after)

    async def end(self, request: web.Request) -> web.Response:
        """The request that ends a run."""
        self.asked.append(f"END {request.path}")
        if self.refuse_ends:
            return web.json_response({"error": {"message": "away"}}, status=503)
        run = self.runs.get(request.match_info.get("name") or request.query.get("conv_id", ""))
        if run is None or run.ended == "whole":
            return web.json_response({"error": {"message": "no such run"}}, status=404)
        run.ended = "cancelled"
        return web.json_response({})

    async def _speak(self, run: Run) -> None:
        await self.named.wait()
        if self.dialect == "responses":
            run.say(
                _event(
                    0,
                    "response.created",
                    response={"id": run.name, "background": True, "status": "queued"},
                )
            )
        for number, piece in enumerate(self.pieces, 1):
            await self.go.wait()
            if run.ended:
                return
            if self.broken and number == 2:
                run.say(b"data: {]\n\n")
            run.say(
                _event(
                    number - 1 + self.first,
                    "response.output_text.delta",
                    output_index=0,
                    delta=piece,
                )
                if self.dialect == "responses"
                else _chunk(piece)
            )
            if self.pause_every and number % self.pause_every == 0:
                self.go.clear()
            await asyncio.sleep(0.02)
        run.ended = run.ended or "whole"
        done = {
            "id": run.name,
            "background": True,
            "status": "completed",
            "usage": {"input_tokens": 5, "output_tokens": 3},
        }
        number = len(self.pieces) + self.first
        run.say(
            _event(number, "response.completed", response=done)
            if self.dialect == "responses"
            else _CHAT_END
        )

    async def _relay(self, request: web.Request, run: Run, after: int) -> web.StreamResponse:
        """`after`: events of a response, bytes of a stream of llama.cpp."""
        if request.transport is not None:
            self._connections.append(request.transport)
        sent = after if self.dialect == "responses" else 0
        while self.late and len(run.said) <= sent and not run.ended:
            await run.news.wait()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        skip = 0 if self.dialect == "responses" else after
        while True:
            news = run.news
            while sent < len(run.said):
                data, sent = run.said[sent], sent + 1
                if data[skip:]:
                    await response.write(data[skip:])
                skip = max(0, skip - len(data))
            if run.ended:
                return response
            await news.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["PaidProvider"]:
        app = web.Application()
        app.router.add_post("/v1/responses", self.begin)
        app.router.add_get("/v1/responses/{name}", self.follow)
        app.router.add_post("/v1/responses/{name}/cancel", self.end)
        app.router.add_post("/v1/chat/completions", self.begin)
        app.router.add_get("/v1/stream", self.follow)
        app.router.add_delete("/v1/stream", self.end)
        self._runner = runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            for task in self._tasks:
                task.cancel()
            await runner.cleanup()


def _event(number: int, kind: str, **fields: Any) -> bytes:
    return (
        b"data: %b\n\n" % json.dumps({"type": kind, "sequence_number": number, **fields}).encode()
    )


def _chunk(text: str, reason: str | None = None) -> bytes:
    delta = {"content": text} if text else {}
    return (
        b"data: %b\n\n"
        % json.dumps(
            {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        ).encode()
    )


_CHAT_END = _chunk("", "stop") + b"data: [DONE]\n\n"
