"""HTTP parsing on raw sockets: web and broadcaster refuse what two servers could read
differently.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.broadcasting import Stage, memory_stage
from tests.integration.raw_http import CHUNKED, MANY, REFUSED, REFUSED_BODIES, answer, first_line
from tests.integration.serving import Web, serving

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    async with serving(tmp_path) as web:
        yield web


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with memory_stage() as stage:
        yield stage


def is_refused(said: bytes) -> bool:
    """A 4xx and a close, or only a close."""
    return said == b"" or said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 414", b"HTTP/1.1 431"))


@pytest.mark.sampled(12)
@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_BODIES])
async def test_web_refuses(web: Web, name: str) -> None:
    """400, and the connection is closed: nothing after it is read as a request."""
    request = (REFUSED | REFUSED_BODIES)[name]
    said = await asyncio.to_thread(answer, web.port, request + GET + b"\r\n")
    assert is_refused(said), said[:200]
    assert b"HTTP/1.1 200" not in said


@pytest.mark.parametrize("name", REFUSED)
async def test_the_broadcaster_refuses(stage: Stage, name: str) -> None:
    """It reads no bodies at all."""
    said = await asyncio.to_thread(
        answer, stage.port, REFUSED[name].replace(b" / ", b" /healthz ") + GET + b"\r\n"
    )
    assert is_refused(said), said[:200]
    assert b"HTTP/1.1 200" not in said


@pytest.mark.parametrize(
    "request_",
    [
        GET + b"\r\n",
        GET + b"Connection: close\r\nX: \xc3\xa9\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\n\r\n",
        GET + b"".join(b"x-%d: 1\r\n" % number for number in range(60)) + b"\r\n",
        GET + b"X: " + b"a" * 8000 + b"\r\n\r\n",
    ],
)
async def test_valid_requests_are_served(web: Web, stage: Stage, request_: bytes) -> None:
    """Among them many headers, long ones, and HTTP/1.0 without a host."""
    assert b" 200 " in await asyncio.to_thread(first_line, web.port, request_)
    assert b" 200 " in await asyncio.to_thread(first_line, stage.port, request_)


async def test_an_absolute_address_is_served_if_it_names_the_host(web: Web) -> None:
    """RFC 9112: servers accept it, as from a proxy."""
    assert b" 200 " in await asyncio.to_thread(
        first_line, web.port, b"GET http://localhost/healthz HTTP/1.1\r\nHost: LOCALHOST\r\n\r\n"
    )


async def test_header_limits_are_settings(tmp_path: Path) -> None:
    """Number and length of headers, by the same settings for both servers."""
    limits = {"max_headers": 30, "max_head_bytes": 8 * 1024}
    requests = {
        b" 200 ": GET
        + b"".join(b"x-%d: 1\r\n" % number for number in range(20))
        + b"X: "
        + b"a" * 7000
        + b"\r\n\r\n",
        b" 4": GET + b"".join(b"x-%d: 1\r\n" % number for number in range(35)) + b"\r\n",
        b" 43": GET + (b"X: " + b"a" * 7000 + b"\r\n") * 2 + b"\r\n",
    }
    async with (
        serving(tmp_path, **limits) as web,
        memory_stage(headers=30, head_bytes=8 * 1024) as stage,
    ):
        for expected, request in requests.items():
            said = await asyncio.to_thread(first_line, stage.port, request)
            assert expected in said
            assert (b" 200 " in await asyncio.to_thread(first_line, web.port, request)) == (
                b" 200 " in said
            )


async def test_short_chunks_and_trailers_are_read(web: Web) -> None:
    """A body with one byte per chunk, however long, and a trailer, which is no header."""
    body = b'{"title":"' + b"x" * 100 + b'"}'
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    request = (
        CHUNKED.replace(b" / ", b" /api/conversations ") + chunks + b"0\r\nX-Trailer: 1\r\n\r\n"
    )
    assert b" 201 " in await asyncio.to_thread(first_line, web.port, request)
    spaces = b"".join(b"1\r\n \r\n" for _ in range(60_000))
    request = CHUNKED.replace(b" / ", b" /api/conversations ") + spaces + b"2\r\n{}\r\n0\r\n\r\n"
    assert b" 201 " in await asyncio.to_thread(first_line, web.port, request)


async def test_an_endless_head_is_cut(web: Web) -> None:
    """Memory does not grow with it."""

    def drip() -> int:
        sent = 0
        with socket.create_connection(("127.0.0.1", web.port)) as connection:
            connection.settimeout(10)
            try:
                connection.sendall(GET + b"X: ")
                while sent < 4_000_000:
                    sent += connection.send(b"a" * 1000)
            except OSError:
                pass
        return sent

    assert await asyncio.to_thread(drip) < 4_000_000


async def test_pipelined_requests_are_answered_one_by_one(web: Web) -> None:
    """Each counts by itself: together they exceed the limit of one head."""
    one = GET + b"X: " + b"a" * 8000 + b"\r\n\r\n"
    last = GET + b"Connection: close\r\n\r\n"
    said = await asyncio.to_thread(answer, web.port, one * 12 + last)
    assert said.count(b"HTTP/1.1 200") == 13


async def test_an_invalid_second_request_does_not_write_into_an_answer(web: Web) -> None:
    """The stream is cut; a refusal would be read as a part of it."""
    conversation, writer = await web.writing()

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", web.port)) as connection:
            connection.settimeout(10)
            connection.sendall(
                f"GET /api/conversations/{conversation}/events HTTP/1.1\r\n"
                "Host: localhost\r\n\r\n".encode()
            )
            said = connection.recv(65536)
            connection.sendall(b"GET / HTTP/1.1\n\n" + MANY)
            try:
                while part := connection.recv(65536):
                    said += part
            except ConnectionResetError:
                pass
        return said

    said = await asyncio.to_thread(ask)
    assert said.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 400" not in said
    assert writer.text == ""
