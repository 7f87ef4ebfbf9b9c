"""web.http.strict: a whole request in one read is counted, although the sum of received bytes
cannot show it.
"""

import asyncio
import json
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from tokenwire.web.http import refusals
from tokenwire.web.http.strict import HeadLimits, StrictProtocol
from tokenwire.web.openai.errors import refused

HEAD = HeadLimits(32 * 1024, 100)
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


class Transport(asyncio.Transport):
    """A connection that records what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.said = b""
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.said += bytes(data)

    def close(self) -> None:
        self._closing = True

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        """Nothing is read here."""

    def resume_reading(self) -> None:
        """Nothing is read here."""


async def answered(request: bytes) -> tuple[bytes, list[dict[bytes, bytes]]]:
    """The first line of the answer to a request that comes in one read, and the headers that the
    application sees after the body.
    """
    said, seen = await heard(request)
    return said.partition(b"\r\n")[0], seen


async def heard(request: bytes, answers: int = 1) -> tuple[bytes, list[dict[bytes, bytes]]]:
    """The same with the whole answer: waits for that many answers, or until the connection is
    closed.
    """
    seen: list[dict[bytes, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        seen.append(dict(scope["headers"]))
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
        )
        await send({"type": "http.response.body", "body": b""})

    config = Config(app, lifespan="off")
    config.load()
    limited = type("Limited", (StrictProtocol,), {"head": HEAD})
    transport, protocol = Transport(), limited(config, ServerState(), {})
    protocol.connection_made(transport)
    protocol.data_received(request)
    async with asyncio.timeout(10):
        while transport.said.count(b"HTTP/1.1 ") < answers and not transport.is_closing():
            await asyncio.sleep(0)
    protocol.connection_lost(None)
    return transport.said, seen


@pytest.mark.parametrize(
    "request_",
    [
        GET + b"X: %s\r\n\r\n",
        b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n",
        CHUNKED + b"0\r\nX: %s\r\n\r\n",
    ],
)
async def test_the_length_of_a_head_is_limited(request_: bytes) -> None:
    """Address, headers and trailers together."""
    line, _ = await answered(request_ % (b"a" * HEAD.size))
    assert line.startswith(b"HTTP/1.1 400")
    line, seen = await answered(request_ % (b"a" * (HEAD.size - 200)))
    assert line.startswith(b"HTTP/1.1 200")
    assert len(seen) == 1


async def test_a_trailer_is_no_header() -> None:
    """A proxy has not checked it as a header."""
    line, seen = await answered(CHUNKED + b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
    assert line.startswith(b"HTTP/1.1 200")
    assert seen == [{b"host": b"localhost", b"transfer-encoding": b"chunked"}]


async def test_each_request_of_a_connection_is_counted_alone() -> None:
    """A browser keeps its connection for hours."""
    request = GET + b"X: y\r\n" * (HEAD.headers - 10) + b"\r\n"
    said, seen = await heard(request * 3, answers=3)
    assert said.count(b"HTTP/1.1 200") == len(seen) == 3


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/models?x=1", "/api/conversations", "/", ""])
async def test_a_refusal_speaks_the_dialect(path: str) -> None:
    """OpenAI's clients read `error`, all others a problem document; then the connection is
    closed.
    """
    refusals.register("/v1/", refused)
    request = (
        b"GET %b HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n" % path.encode()
        if path
        else b"\0"
    )
    said, seen = await heard(request)
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nconnection: close" in head.lower()
    assert f"\r\ncontent-length: {len(body)}".encode() in head.lower()
    document = json.loads(body)
    assert (document["error"] if path.startswith("/v1") else document)["code"] == "bad_request"
    assert (b"application/problem+json" in head) == (not path.startswith("/v1"))
    assert seen == []
