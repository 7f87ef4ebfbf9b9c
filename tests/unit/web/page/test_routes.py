"""The page, its files, and the headers that protect it."""

import asyncio

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from tokenwire.web.http.middleware import LastErrorHandler


async def test_the_page_and_its_files_are_revalidated(client: httpx.AsyncClient) -> None:
    """A deployment shows at once; an unchanged file costs a 304."""
    for path in ("/", "/static/tokenwire.js"):
        answer = await client.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
    again = await client.get(
        "/static/tokenwire.js", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304
    assert (await client.head("/")).status_code == 200


async def test_every_answer_is_protected(client: httpx.AsyncClient) -> None:
    """Scripts come only from this origin, no site may frame the page, and no API answer is
    cached.
    """
    for path in ("/", "/api/models", "/nope", "/static/tokenwire.js"):
        headers = (await client.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert policy.endswith("connect-src 'self' ws://chat.example:8001")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert (await client.get("/api/models")).headers["cache-control"] == "no-store"


async def test_an_open_request_is_answered_at_shutdown() -> None:
    """It gets an answer instead of a closed connection."""

    async def forever(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [],
        "query_string": b"",
        "scheme": "http",
    }
    task = asyncio.create_task(LastErrorHandler(forever)(scope, receive, send))
    await asyncio.sleep(0)
    task.cancel()
    await task
    assert sent[0]["status"] == 503


async def test_a_broken_answer_is_visible() -> None:
    """Nothing is appended to it: the server closes the connection."""

    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("half")

    async def nothing(_message: Message | None = None) -> Message:
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "headers": [],
        "query_string": b"",
        "scheme": "http",
    }
    with pytest.raises(RuntimeError, match="half"):
        # Sends nowhere.
        await LastErrorHandler(half)(scope, nothing, nothing)  # type: ignore[arg-type]
