"""The HTTP API for Python programs: conversations, posts, cancels; and `ask` and `stream`.

    async with Tokenwire("http://127.0.0.1:8000") as tw:
        print((await tw.ask("Hello!")).content)

Refusals are `RequestFailed`. A request that only reads, or has an idempotency key, is tried again
if it did not get through.
"""

import asyncio
import contextlib
import inspect
import json
import random
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from tokenwire.client.errors import AnswerFailed, AnswerRestarted, RequestFailed
from tokenwire.client.following import Following
from tokenwire.client.transcript import LiveMessage, PostResult
from tokenwire.protocol.sent import Sent, Withdrawn
from tokenwire.protocol.states import MAX_SENTENCE_CHARS

RequestHeaders = Mapping[str, str]
HeadersSource = RequestHeaders | Callable[[], RequestHeaders | Awaitable[RequestHeaders]]
WhileRunning = Literal["queue", "reject", "cancel_previous", "steer"]
"""What a post does while an answer is running."""
AnswerSchema = Mapping[str, Any] | type[BaseModel]
"""JSON Schema of an answer, or a pydantic model, which gives one."""
WantedSchema = AnswerSchema | Literal[False] | None
"""That of an answer. None: that of its conversation. False: none at all."""
TRIES = 4
"""How often a call that may be repeated is made."""
_PASSING = frozenset({0, 429, 502, 503, 504})


class Tokenwire:
    """A Tokenwire server. `headers`, or what that function gives, go with every request.

    They carry the login, for example. The function may be async.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: HeadersSource | None = None,
        timeout_seconds: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=base_url, timeout=timeout_seconds, transport=transport
        )
        self._headers = headers
        self._jitter = jitter

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the API. Each `Following` has its own `aclose`."""
        await self._http.aclose()

    # --- conversations ---

    async def create(
        self,
        *,
        title: str | None = None,
        model: str | None = None,
        instructions: str | None = None,
        tools: Sequence[str] | None = None,
        schema: AnswerSchema | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> "RemoteConversation":
        """A new conversation of the caller. `tools`: names; None: all. `schema`: of its answers.
        `options`: their parameters (`temperature`, ...).
        """
        wanted: dict[str, Any] = {"title": title, "model": model, "instructions": instructions}
        wanted |= {"tools": tools, "schema": _json_schema(schema), "options": options}
        body = {name: value for name, value in wanted.items() if value is not None}
        return RemoteConversation(
            self, (await self.call("POST", "/api/conversations", body, key=str(uuid.uuid4())))["id"]
        )

    def conversation(self, conversation_id: str) -> "RemoteConversation":
        """An existing conversation. This sends no request."""
        return RemoteConversation(self, conversation_id)

    async def conversations(
        self, *, limit: int = 50, before: str | None = None
    ) -> Mapping[str, Any]:
        """{"conversations", "next"}, the last changed first.

        `next` is the `before` of the next page; None at the end.
        """
        return await self.call("GET", "/api/conversations", limit=limit, before=before)

    async def models(self) -> Mapping[str, Any]:
        """{"default", "models"}: what can be used now."""
        return await self.call("GET", "/api/models")

    async def cancel(self, message_id: str) -> bool:
        """Stop an answer, also before it has begun. False: it has ended already."""
        return bool(
            (
                await self.call(
                    "POST", f"/api/messages/{quote(message_id, safe='')}/cancel", repeats=True
                )
            )["cancelled"]
        )

    async def calls(self, message_id: str) -> list[Mapping[str, Any]]:
        """The tool calls of an answer, each with its `decisions`."""
        path = f"/api/messages/{quote(message_id, safe='')}/calls"
        return list((await self.call("GET", path))["calls"])

    async def decide(
        self,
        message_id: str,
        number: int,
        decision: str,
        *,
        reason: str | None = None,
        arguments: Mapping[str, Any] | str | None = None,
        result: Any = None,
        runs: int | None = None,
    ) -> Mapping[str, Any]:
        """Decide about the call in the part `number`: {"call", "decision"}.

        Raises RequestFailed; its code is `already_decided` if another decision came first. It is
        safe to repeat, except for a `repeat` without `runs`.
        """
        fields = {"reason": reason, "arguments": arguments, "runs": runs}
        body = {name: value for name, value in fields.items() if value is not None}
        body |= {"decision": decision} | ({"result": result} if decision == "result" else {})
        path = f"/api/messages/{quote(message_id, safe='')}/calls/{number}/decision"
        repeats = decision != "repeat" or runs is not None
        return await self.call("POST", path, body, repeats=repeats)

    async def answer_calls(
        self, message_id: str, functions: Mapping[str, Callable[..., Any]]
    ) -> list[str]:
        """Execute the calls of an answer that wait for this client, and send their results: the
        names of those that were executed.

        `functions`: by name of the tool; each gets the arguments by name, and may be async. The
        model reads the text of an exception. A call that another client has answered meanwhile
        keeps that answer.
        """
        waiting = [
            call
            for call in await self.calls(message_id)
            if call["state"] == "awaiting_client" and call["name"] in functions
        ]
        for call in waiting:
            decision = await _executed(functions[call["name"]], json.loads(call["input"]))
            try:
                await self.decide(message_id, call["number"], **decision)
            except RequestFailed as error:
                if error.code != "already_decided":
                    raise
        return [call["name"] for call in waiting]

    # --- the short ways ---

    async def ask(
        self, content: str, *, model: str | None = None, instructions: str | None = None
    ) -> LiveMessage:
        """The whole answer to a question, in a conversation of its own.

        Raises AnswerFailed if it does not end as `complete`.
        """
        conversation = await self.create(model=model, instructions=instructions)
        return await conversation.ask(content)

    async def stream(
        self, content: str, *, model: str | None = None, instructions: str | None = None
    ) -> AsyncGenerator[str]:
        """The same in pieces. Close it (`contextlib.aclosing`) to leave early."""
        conversation = await self.create(model=model, instructions=instructions)
        async with contextlib.aclosing(conversation.stream(content)) as pieces:
            async for piece in pieces:
                yield piece

    # --- requests ---

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        repeats: bool = False,
        **query: Any,
    ) -> Mapping[str, Any]:
        """The JSON of the response. Raises RequestFailed.

        `key` is the Idempotency-Key. With one, with `repeats`, and if it is a GET, the request is
        tried again if it did not get through.
        """
        tries = TRIES if key is not None or repeats or method == "GET" else 1
        while True:
            try:
                return await self._once(method, path, body, key, query)
            except RequestFailed as error:
                tries -= 1
                if error.status not in _PASSING or not tries:
                    raise
                await asyncio.sleep(
                    max(error.retry_after, self._jitter() * 0.5 * 2 ** (TRIES - tries))
                )

    async def _once(
        self, method: str, path: str, body: Any, key: str | None, query: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        headers = dict(await self._current_headers())
        if key is not None:
            headers["Idempotency-Key"] = key
        params = {name: value for name, value in query.items() if value is not None}
        try:
            answer = await self._http.request(
                method, path, json=body, headers=headers, params=params
            )
        except httpx.TransportError as error:
            raise RequestFailed(0, "unreachable", repr(error)) from error
        if answer.is_success:
            return dict(answer.json()) if answer.content else {}
        raise _refusal(answer)

    async def _current_headers(self) -> RequestHeaders:
        headers = self._headers() if callable(self._headers) else self._headers
        if inspect.isawaitable(headers):
            headers = await headers
        return headers or {}

    def follow(self, path: str) -> Following:
        """Follow the conversation at `path`."""
        # Requests are not repeated here: a failed one is a failed connection, with its back-off.
        return Following(
            lambda: self._once("GET", path, None, None, {}),
            lambda: self._once("POST", f"{path}/subscription", None, None, {}),
            self._jitter,
        )


class RemoteConversation:
    """One conversation."""

    def __init__(self, server: Tokenwire, conversation_id: str) -> None:
        self.id = conversation_id
        self._server = server
        self._path = f"/api/conversations/{quote(conversation_id, safe='')}"

    async def read(
        self, *, limit: int | None = None, before: int | None = None
    ) -> Mapping[str, Any]:
        """{"conversation", "messages", "next", "cursor"} as the API gives it."""
        return await self._server.call("GET", self._path, limit=limit, before=before)

    async def post(
        self,
        content: str,
        *,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
        schema: WantedSchema = None,
        tools: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        while_running: WhileRunning | None = None,
    ) -> PostResult:
        """Post a message; when this returns, its answer is on its way.

        `model`, `options`: of this answer, before those of the conversation. `schema`: of the
        answer, whose content is then one JSON document; False: none, even if the conversation has
        one. `tools`: as in PROTOCOL.md (`use`, `choice`, `client`). Safe to repeat
        with the same key. Without one, a random key is used. `while_running`: what happens if an
        answer is running; None: as the server is set up.
        """
        key = idempotency_key or str(uuid.uuid4())
        wanted = {"content": content, "schema": _json_schema(schema), "tools": tools}
        wanted |= {"while_running": while_running, "model": model, "options": options}
        body: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
        if schema is False:
            body["schema"] = None
        made = await self._server.call("POST", f"{self._path}/messages", body, key=key)
        return PostResult(
            LiveMessage(made["user_message"]),
            LiveMessage(made["assistant_message"]),
            made["cursor"],
        )

    async def change(self, **changes: Any) -> Mapping[str, Any]:
        """Change `title`, `model`, `instructions`, `tools`, `schema` or `options`; the conversation
        as it is then.
        """
        if "schema" in changes:
            changes["schema"] = _json_schema(changes["schema"])
        return await self._server.call("PATCH", self._path, changes, repeats=True)

    async def cancel(self) -> list[str]:
        """Stop every answer that has not ended: their ids."""
        return list(
            (await self._server.call("POST", f"{self._path}/cancel", repeats=True))["cancelled"]
        )

    async def delete(self) -> None:
        """Delete it for good."""
        await self._server.call("DELETE", self._path)

    def follow(self) -> Following:
        """Follow it: `async with conversation.follow() as stream`, then iterate over `stream`."""
        return self._server.follow(self._path)

    async def ask(self, content: str, *, schema: WantedSchema = None) -> LiveMessage:
        """The whole answer to a message; `schema` as in `post`. If the message steers, the answer
        that took it in. Raises AnswerFailed, FollowingStopped.
        """
        posted = await self.post(content, schema=schema)
        async with self.follow() as following:
            return _complete(await following.until_answered(posted))

    async def stream(self, content: str) -> AsyncGenerator[str]:
        """The answer in pieces, as it grows. If the message steers, what the answer that took it in
        says behind it.

        Raises AnswerFailed, AnswerRestarted, FollowingStopped.
        """
        posted = await self.post(content)
        text = Sent()
        async with self.follow() as following:
            while True:
                held = following.answer_to(posted)
                if held is not None and (piece := _piece(text, held, posted.user_message.id)):
                    yield piece
                if held is not None and held.ended:
                    _complete(held)
                    return
                await anext(following)


def _json_schema(schema: WantedSchema) -> Mapping[str, Any] | None:
    if isinstance(schema, type):
        return schema.model_json_schema()
    return None if schema is False else schema


async def _executed(
    function: Callable[..., Any], arguments: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The decision about a call, from what its function returns or raises."""
    try:
        result = function(**arguments)
        if inspect.isawaitable(result):
            result = await result
    except Exception as error:  # noqa: BLE001 -- whatever it is, the model must learn of it
        reason = str(error).strip() or type(error).__name__
        return {"decision": "error", "reason": reason[:MAX_SENTENCE_CHARS]}
    return {"decision": "result", "result": result}


def _piece(text: Sent, held: LiveMessage, question: str) -> str:
    """The text for the message `question` that has arrived since the last call."""
    try:
        text.replace(held.text_for(question))
        if held.ended:
            text.finish()
    except Withdrawn as error:
        raise AnswerRestarted(held.id) from error
    return text.take_rest()


def _complete(message: LiveMessage) -> LiveMessage:
    if message.status != "complete":
        raise AnswerFailed(message)
    return message


def _refusal(answer: httpx.Response) -> RequestFailed:
    try:
        problem = answer.json()
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        code, detail = "unknown", answer.reason_phrase
    after = answer.headers.get("retry-after", "")
    return RequestFailed(answer.status_code, code, detail, float(after) if after.isdigit() else 0.0)
