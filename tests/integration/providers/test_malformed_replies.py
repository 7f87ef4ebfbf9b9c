"""Replies that are not HTTP, or not the HTTP that their heads announce: each ends as an error of a
provider, with both transports. None of the HTTP client's own errors escapes.
"""

import pytest

from tests.integration.providers.answers import background, chunk, read, spec
from tests.integration.providers.wire import Exchange, serving
from tokenwire.providers.base import ProviderError, Unavailable
from tokenwire.providers.http import HttpClient
from tokenwire.providers.registry import open_provider

OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
PIECE = chunk("a")
ONE = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)

HEADS = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "an endless first line": b"x" * 200_000,
    "a status that is no number": b"HTTP/1.1 OK 200\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a header without a name": b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    "a header without a colon": b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
    "a header of a megabyte": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "a zero byte in a header": b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
    "a length that is no number": OK + b"content-length: many\r\n\r\n",
    "two lengths": OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
    "an end inside the head": b"HTTP/1.1 200 OK\r\ncontent-ty",
    "nothing": b"",
}
BODIES = {
    "a chunk's length that is no number": CHUNKED + ONE + b"zz\r\n",
    "a chunk's length that overflows": CHUNKED + ONE + b"f" * 40 + b"\r\nab",
    "a chunk that is longer than it says": CHUNKED + ONE + b"1\r\nabcdef\r\n",
    "an endless chunk extension": CHUNKED + ONE + b"1;" + b"x" * 1_000_000,
    "an end inside a chunk": CHUNKED + ONE + b"ff\r\nab",
    "an end between chunks": CHUNKED + ONE,
    "fewer bytes than announced": OK + b"content-length: 5000\r\n\r\n" + PIECE,
}


async def reply(client: HttpClient, data: bytes) -> tuple[str, ProviderError]:
    """What an answer has of these bytes, after which the server hangs up, and its error."""

    async def script(exchange: Exchange) -> None:
        exchange.writer.write(data)
        await exchange.writer.drain()
        exchange.writer.close()
        await exchange.writer.wait_closed()
        raise ConnectionResetError

    async with serving(script) as server:
        text, _, raised = await read(client, spec(server.url))
    assert raised is not None
    return text, raised


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_that_is_no_http(client: HttpClient, name: str) -> None:
    """The provider may have received the request, so it is not `no_run`."""
    text, raised = await reply(client, HEADS[name])
    assert text == ""
    assert isinstance(raised, Unavailable), raised
    assert (raised.code, raised.no_run) == ("connection_lost", False)


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_that_breaks_its_framing(client: HttpClient, name: str) -> None:
    """What came before it counts: the answer is interrupted, and can be continued."""
    text, raised = await reply(client, BODIES[name])
    assert text in ("a", "")
    assert raised.code == "connection_lost", raised


async def test_a_run_whose_end_is_answered_by_no_http(client: HttpClient) -> None:
    """Who ends runs meets the same error, and tries again later."""

    async def script(exchange: Exchange) -> None:
        exchange.writer.write(HEADS["no HTTP"])
        await exchange.writer.drain()

    async with serving(script) as server:
        with pytest.raises(Unavailable) as refused:
            await open_provider(background(server.url), client).end("resp_1")
    assert refused.value.code == "connection_lost"
