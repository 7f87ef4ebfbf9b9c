"""The scripted provider: one HTTP server, several dialects, with and without continuation.

It records every request, so that the driver knows which process sent it, when, with which prefix,
and when the connection was closed.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.chaos.dialects import (
    ANTHROPIC,
    GEMINI,
    OLLAMA,
    OPENAI,
    Dialect,
    Turn,
    openai_calls,
)
from tests.chaos.rounds import Rounds, WrongRequest, is_remark, question, rounds_of
from tests.chaos.script import Script, asked_for
from tests.chaos.service import PATH, Service

OVERLAP_CHARS = 24
"""A model that continues in an extra turn first repeats its last words; so does this one."""


@dataclass
class Asked:
    """One request. Times are `time.monotonic()`; `ended` is None while it runs; `whole`: the answer
    was sent to its end.
    """

    number: int
    peer_port: int
    prefix_chars: int
    began: float
    ended: float | None = None
    whole: bool = False
    again: bool = False
    """The model is asked behind the results of a round."""


@dataclass
class ScriptedProvider:
    """A dialect's paths begin with `base` and one of these words.

    `prefix`, `turn`: continues a prefix, or in an extra turn; `over`: always starts over; `tools`:
    calls tools, and starts a turn over; `rounds`: the same with more and shorter turns; `down`:
    answers 503; `mute`: accepts the request and sends nothing.
    """

    pieces_per_second: float
    asked: list[Asked] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Requests that no correct worker sends."""
    port: int = 0
    rounds: Rounds = field(default_factory=Rounds)
    service: Service | None = None
    """The HTTP tools, which answer here as well."""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def running(self) -> list[Asked]:
        """Requests whose answer is being sent."""
        return [asked for asked in self.asked if asked.ended is None and not asked.whole]

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        for path, dialect in (
            ("/{how}/v1/chat/completions", OPENAI),
            ("/{how}/v1/messages", ANTHROPIC),
            ("/{how}/v1/models/{model}:streamGenerateContent", GEMINI),
            ("/{how}/api/chat", OLLAMA),
        ):
            app.router.add_post(path, self._handler(dialect))
        if self.service is not None:
            app.router.add_post(PATH, self.service.handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1000)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def aclose(self) -> None:
        await self._runner.cleanup()

    def _handler(self, dialect: Dialect) -> Any:
        async def handle(request: web.Request) -> web.StreamResponse:
            body: Mapping[str, Any] = await request.json()
            how, turns = request.match_info["how"], dialect.turns(body)
            if how == "rounds":
                roles, texts = zip(*((turn.role, turn.text) for turn in turns), strict=True)
                turns = turns[: question(roles, texts, body.get("seed")) + 1]
            script, prefix = self._understood(how, turns)
            if script is None:
                return web.json_response(
                    {"error": {"message": "nothing that I know", "type": "invalid_request_error"}},
                    status=400,
                )
            if how == "down":
                return web.json_response({"error": {"message": "overloaded"}}, status=503)
            peer = request.transport.get_extra_info("peername") if request.transport else ("", 0)
            asked = Asked(script.number, peer[1], len(prefix), time.monotonic())
            asked.again = how == "rounds" and len(body["messages"]) > len(turns)
            self.asked.append(asked)
            try:
                if how == "mute":
                    await asyncio.Event().wait()
                if how == "tools" or (how == "rounds" and not is_remark(script.number)):
                    pieces, calls = self._round(how, script, body["messages"])
                else:
                    pieces, calls = self._left(how, script, prefix), ()
                return await self._answer(request, dialect, pieces, calls, asked)
            finally:
                asked.ended = time.monotonic()

        return handle

    def _understood(self, how: str, turns: Sequence[Turn]) -> tuple[Script | None, str]:
        """Which text is wanted, and how much of it is said to be there."""
        last = max(
            (
                index
                for index, turn in enumerate(turns)
                if turn.role == "user" and asked_for(turn.text)
            ),
            default=None,
        )
        if last is None:
            self.wrong.append(f"no question in {turns[-1:]}")
            return None, ""
        script, after = asked_for(turns[last].text), turns[last + 1 :]
        if after and how == "over":
            self.wrong.append(
                f"text {script.number if script else '?'}: asked to continue where that is not "
                f"possible"
            )
        return script, after[0].text if after else ""

    def _left(self, how: str, script: Script, prefix: str) -> list[str]:
        if how == "over":
            return list(script.pieces)
        try:
            left = script.after(prefix)
        except ValueError:
            self.wrong.append(
                f"text {script.number}: {len(prefix)} characters that are not its beginning: "
                f"...{prefix[-40:]!r}"
            )
            return list(script.pieces)
        return [prefix[-OVERLAP_CHARS:], *left] if how == "turn" and prefix else left

    def _round(
        self, how: str, script: Script, messages: Sequence[Mapping[str, Any]]
    ) -> tuple[list[str], Sequence[tuple[str, int]]]:
        after = messages[question([each["role"] for each in messages]) + 1 :]
        try:
            return self.rounds.next(script, after, rounds_of(how, script.number))
        except WrongRequest as wrong:
            self.wrong.append(f"text {script.number}: {wrong}")
            return list(script.pieces), ()

    async def _answer(
        self,
        request: web.Request,
        dialect: Dialect,
        pieces: Sequence[str],
        calls: Sequence[tuple[str, int]],
        asked: Asked,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": dialect.content_type})
        # The connection is not used again: its end is this answer's end.
        response.force_close()
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await response.write(dialect.first())
            await self._paced(response, dialect, pieces)
            await response.write(openai_calls(calls) if calls else dialect.last(len(pieces)))
            asked.whole = True
            await response.write_eof()
        return response

    async def _paced(
        self, response: web.StreamResponse, dialect: Dialect, pieces: Sequence[str]
    ) -> None:
        began = time.monotonic()
        for index, piece in enumerate(pieces):
            early = began + index / self.pieces_per_second - time.monotonic()
            if early > 0:
                await asyncio.sleep(early)
            await response.write(dialect.piece(piece))
