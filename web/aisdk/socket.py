"""`/api/chat/ws` for ai 7's `WebSocketChatTransport`: any number of chats over one socket.

Each request (`send`, `resume`) is a task that answers with `start`, `chunk`s numbered from 0, and
`end`; `abort` ends the task but, as everywhere, not the answer. A refusal is an `error` frame with
the problem's sentence. The socket closes with 1012 when the process stops, and with 1008 after an
invalid frame.

If the handshake carries no login, the `headers` of the first frame do. Nothing else of that frame
is read before the login.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import APIRouter, WebSocket
from starlette.requests import Request
from starlette.websockets import WebSocketDisconnect
from websockets.frames import CloseCode

from tokenwire.web import aisdk
from tokenwire.web.admission.layer import Seat
from tokenwire.web.aisdk import posts as chat_posts
from tokenwire.web.aisdk import requests as chat_requests
from tokenwire.web.aisdk.chat import profile_of
from tokenwire.web.aisdk.posts import Followed
from tokenwire.web.aisdk.requests import ChatFrame, InputLimits
from tokenwire.web.aisdk.stream import chunk_batches
from tokenwire.web.aisdk.values import dumps
from tokenwire.web.events.routes import admit
from tokenwire.web.http.aside import aside, in_thread
from tokenwire.web.http.streaming import Cut
from tokenwire.web.problems import ApiProblem, problem_of
from tokenwire.web.services import WebServices

log_line = structlog.get_logger(__name__)

MAX_REQUESTS = 32
"""Answers that one socket may follow at a time."""

router = APIRouter(prefix="/api")


@router.websocket("/chat/ws")
async def chat_socket(websocket: WebSocket, profile: str | None = None) -> None:
    """Serve one socket until either side ends it. Each request is identified separately."""
    services: WebServices = websocket.app.state.services
    try:
        wanted = profile_of(services, profile)
    except ApiProblem as problem:
        await websocket.close(CloseCode.POLICY_VIOLATION, problem.code)
        return
    await websocket.accept()
    await _ChatSocket(services, websocket, wanted).serve()


@dataclass(frozen=True, slots=True)
class _Asked:
    """A parsed frame: its user, and the answer to follow (None: no answer is unfinished)."""

    request: Request
    user: str
    found: Followed | None


class _ChatSocket:
    """One connection: reads frames, runs a task for each request."""

    def __init__(self, services: WebServices, websocket: WebSocket, profile: aisdk.Profile) -> None:
        self._services, self._websocket, self._profile = services, websocket, profile
        self._bounds = InputLimits.of(services.settings)
        self._seat: Seat = websocket.scope["state"]["seat"]
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._login: str | None = None

    async def serve(self) -> None:
        """Serve until the client leaves, sends an invalid frame, or the process stops."""
        try:
            if self._seat.user is None:
                first = await self._websocket.receive_text()
                self._log_in(first)
                await self._take(await self._understood(first))
            while True:
                await self._take(await self._understood(await self._websocket.receive_text()))
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: closed by one of our tasks
            pass
        except (ApiProblem, KeyError) as problem:  # KeyError: a binary frame
            log_line.info("not a frame of a chat", reason=str(problem))
            await self._websocket.close(CloseCode.POLICY_VIOLATION, "not a frame")
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _log_in(self, text: str) -> None:
        # Nothing waits in here: the connection reads on at the next wait.
        self._login = chat_requests.parse_login(text)
        self._seat.login(self._services.identify(_as_request(self._websocket, self._login)))

    async def _understood(self, text: str) -> ChatFrame:
        try:
            return await aside(
                len(text), lambda: chat_requests.parse_frame(text, self._bounds, mend=False)
            )
        except chat_requests.Unclean:
            return await in_thread(lambda: chat_requests.parse_frame(text, self._bounds))

    async def _take(self, frame: ChatFrame) -> None:
        task = self._tasks.get(frame.request_id)
        if frame.type == "abort":
            if task is not None:
                task.cancel()
        elif task is not None or len(self._tasks) >= MAX_REQUESTS:
            await self._send(
                "error",
                frame.request_id,
                errorText="Too many requests on one socket, or the same one twice.",
            )
        else:
            task = self._tasks[frame.request_id] = asyncio.create_task(self._answer(frame))
            request_id = frame.request_id
            task.add_done_callback(lambda _: self._tasks.pop(request_id, None))

    async def _answer(self, frame: ChatFrame) -> None:
        request_id, opening = frame.request_id, self._open(frame)
        del frame  # it may be long, and an answer takes long
        try:
            await self._follow(request_id, await opening)
        except Cut:
            await self._websocket.close(CloseCode.SERVICE_RESTART, "the server restarts")
        except WebSocketDisconnect:
            return
        except Exception as error:  # noqa: BLE001 - the table of refusals decides
            await self._send("error", request_id, errorText=_sentence(error))

    async def _open(self, frame: ChatFrame) -> "_Asked":
        request = _as_request(self._websocket, chat_requests.login_in(frame.headers) or self._login)
        user = self._services.identify(request)
        if frame.type == "send":
            await self._seat.count_post(user)
        return _Asked(request, user, await self._find(frame, user))

    async def _follow(self, request_id: str, asked: "_Asked") -> None:
        found, user = asked.found, asked.user
        if found is None:
            await self._send("no-active", request_id)
            return
        row = found.row

        async def find(_user: str) -> str:
            return row.conversation_id

        _, permission = await admit(asked.request, self._services, find)
        with self._seat.following(user), self._services.places.take():
            async with chunk_batches(
                self._services, row.id, self._profile, permission, continued=found.continued
            ) as batches:
                await self._send("start", request_id)
                number = 0
                async for chunks, _ in batches:
                    for chunk in chunks:
                        await self._send("chunk", request_id, sequence=number, chunk=chunk)
                        number += 1
        await self._send("end", request_id)

    async def _find(self, frame: ChatFrame, user: str) -> Followed | None:
        """The answer to follow; None: no answer is unfinished."""
        if frame.type == "send":
            asked = await in_thread(lambda: chat_requests.asked_in(frame, self._bounds))
            return await chat_posts.accept(self._services, user, asked)
        last = chat_requests.last_shown_in(frame)
        conversation = await self._services.store.find_chat(
            user, chat_requests.name(frame.id, "frame.id")
        )
        if conversation is None:
            return None
        row = await chat_posts.resumable(self._services, conversation, user, last)
        return None if row is None else Followed(row)

    async def _send(self, kind: str, request_id: str, **fields: Any) -> None:
        with contextlib.suppress(
            WebSocketDisconnect, RuntimeError
        ):  # it has left; the reading side notices
            await self._websocket.send_text(
                dumps({"type": kind, "requestId": request_id, **fields}).decode()
            )


def _sentence(error: Exception) -> str:
    """Why a request was refused, as over HTTP; what is unexpected is logged."""
    problem = error if isinstance(error, ApiProblem) else problem_of(error, path="/api/chat/ws")
    if problem is not None:
        return problem.detail
    log_line.error("a request of a chat failed", exc_info=error)
    return "The server failed. It is not your request's fault."


def _as_request(websocket: WebSocket, login: str | None) -> Request:
    """The handshake with a frame's login, as a changing request: another origin's page is
    refused.
    """
    kept = list(websocket.scope["headers"])
    if login is not None:
        kept = [(name, value) for name, value in kept if name != b"authorization"]
        kept.append((b"authorization", login.encode("latin-1", "replace")))
    return Request({**websocket.scope, "type": "http", "method": "POST", "headers": kept})
