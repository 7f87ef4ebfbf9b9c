"""Bodies: errors, encodings, secrets, ends that do not come."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from tests.integration.providers.answers import END, chunk, read, spec
from tests.integration.providers.wire import Exchange, serving
from tokenwire.providers.base import AnswerTooLarge, Delta, RateLimited, Unavailable
from tokenwire.providers.http import HttpClient, Reply, Timeouts
from tokenwire.providers.openai_chat import ChatDecoder


async def test_the_request_has_the_providers_form(client: HttpClient) -> None:
    """Key, headers, no compression, and the body of the dialect."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END)

    async with serving(script) as server:
        await read(client, spec(server.url + "/v1", api_key="secret", headers={"x-team": "7"}))
    call = server.calls[0]
    assert (call.method, call.path) == ("POST", "/v1/chat/completions")
    assert call.headers["authorization"] == "Bearer secret"
    assert call.headers["accept-encoding"] == "identity"
    assert call.headers["x-team"] == "7"
    assert json.loads(call.body)["messages"] == [{"role": "user", "content": "hello"}]


async def test_an_http_error_is_classified(client: HttpClient) -> None:
    """Status, body and headers decide its class and hint."""

    async def script(exchange: Exchange) -> None:
        await exchange.whole(
            b'{"error":{"message":"slow down"}}', 429, "application/json", retry_after="7"
        )

    async with serving(script) as server:
        _, _, raised = await read(client, spec(server.url))
    assert type(raised) is RateLimited
    assert (raised.status, raised.retry_after_s, raised.message) == (429, 7.0, "slow down")


async def test_an_endless_error_body_is_cut(client: HttpClient) -> None:
    """Its beginning is enough."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(500, "text/html")
        for _ in range(10_000):
            await exchange.send(b"x" * 65536)

    async with serving(script) as server:
        _, _, raised = await read(client, spec(server.url))
    assert type(raised) is Unavailable


async def test_cookies_of_one_answer_are_not_sent_with_the_next(client: HttpClient) -> None:
    """Keys of several customers may share a pool. The server has a name here, since clients keep no
    cookies for an IP address.
    """

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END, set_cookie="who=me; Path=/")

    async with serving(script) as server:
        for _ in range(2):
            await read(client, spec(f"http://localhost:{server.port}"))
    assert len(server.calls) == 2
    assert all("cookie" not in call.headers for call in server.calls)


@pytest.mark.parametrize(("encoding", "wbits"), [("gzip", 31), ("deflate", 15)])
async def test_a_body_compressed_unasked(client: HttpClient, encoding: str, wbits: int) -> None:
    """It is decompressed; damage is an error."""

    async def script(exchange: Exchange) -> None:
        squeeze = zlib.compressobj(wbits=wbits)
        await exchange.head(content_encoding=encoding)
        await exchange.send(squeeze.compress(chunk("a")) + squeeze.flush(zlib.Z_SYNC_FLUSH))
        await exchange.send(squeeze.compress(END) + squeeze.flush())
        await exchange.end()

    async with serving(script) as server:
        text, _, raised = await read(client, spec(server.url))
    assert (text, raised) == ("a", None)


def bomb(size: int) -> bytes:
    """Comment lines of `size` bytes, compressed to a three hundredth."""
    squeeze = zlib.compressobj(9, wbits=31)
    return squeeze.compress((b":" + b" " * 62 + b"\n") * (size // 64)) + squeeze.flush()


@pytest.mark.parametrize("status", [200, 500])
async def test_a_body_that_swells_is_abandoned(
    client: HttpClient, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read of 64 KiB may be 64 MB: no step decompresses more than its share, in error bodies
    too.
    """
    sizes: list[int] = []
    chunks = Reply.chunks

    async def counted(self: Reply) -> AsyncGenerator[bytes]:
        async for data in chunks(self):
            sizes.append(len(data))
            yield data

    monkeypatch.setattr(Reply, "chunks", counted)
    data = bomb(64 * 1024 * 1024)
    assert len(data) < 256 * 1024

    async def script(exchange: Exchange) -> None:
        await exchange.whole(data, status, content_encoding="gzip")

    async with serving(script) as server:
        _, _, raised = await read(client, spec(server.url))
    expected = (AnswerTooLarge, "too_large") if status == 200 else (Unavailable, "500")
    assert raised is not None
    assert (type(raised), raised.code) == expected
    assert max(sizes) <= 256 * 1024
    assert sum(sizes) <= 24 * 1024 * 1024


async def test_a_body_that_repeats_itself_is_read(client: HttpClient) -> None:
    """Ordinary answers compress well, too."""
    words = "again and " * 100_000

    async def script(exchange: Exchange) -> None:
        await exchange.head(content_encoding="gzip")
        await exchange.send(
            gzip.compress(
                b"".join(chunk(words[at : at + 1000]) for at in range(0, len(words), 1000)) + END
            )
        )
        await exchange.end()

    async with serving(script) as server:
        text, _, raised = await read(client, spec(server.url))
    assert (text, raised) == (words, None)


async def test_a_compressed_body_goes_on_behind_its_first_part(client: HttpClient) -> None:
    """Some servers compress each piece separately: the format treats this as one body."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(content_encoding="gzip")
        await exchange.send(gzip.compress(chunk("a")) + gzip.compress(chunk("b"))[:5])
        await exchange.send(gzip.compress(chunk("b"))[5:] + gzip.compress(END))
        await exchange.end()

    async with serving(script) as server:
        text, _, raised = await read(client, spec(server.url))
    assert (text, raised) == ("ab", None)


async def test_the_body_of_an_error_in_single_bytes() -> None:
    """Its length is not summed up again for each of them."""
    counted = 0

    class Piece(bytes):
        def __len__(self) -> int:
            nonlocal counted
            counted += 1
            return super().__len__()

    class Dripping(Reply):
        def __init__(self) -> None:
            pass

        async def chunks(self) -> AsyncGenerator[bytes]:
            for _ in range(2000):
                yield Piece(b"x")

    assert await Dripping().beginning() == b"x" * 2000
    assert counted <= 4 * 2000


@pytest.mark.parametrize("encoding", ["br", "gzip"])
async def test_an_unreadable_body(client: HttpClient, encoding: str) -> None:
    """It is the provider's error."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(content_encoding=encoding)
        await exchange.send(b"rubbish")
        await exchange.end()

    async with serving(script) as server:
        _, _, raised = await read(client, spec(server.url))
    assert type(raised) is Unavailable
    assert raised.code == "bad_encoding"


async def test_a_finished_answer_does_not_wait_for_the_end_of_its_body() -> None:
    """Its proof is enough."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(chunk("a") + END)
        await exchange.left()

    async with (
        serving(script) as server,
        aclosing(HttpClient(Timeouts(connect=60, read=60))) as client,
        asyncio.timeout(20),
    ):
        text, _, raised = await read(client, spec(server.url))
    assert (text, raised) == ("a", None)


async def test_a_key_that_a_provider_echoes_is_hidden(client: HttpClient) -> None:
    """The key and other headers of the entry, in an HTTP error and in an error inside a 200."""

    async def script(exchange: Exchange) -> None:
        said = (
            f"you sent {exchange.call.headers['authorization']} and "
            f"{exchange.call.headers['x-team']}"
        )
        body = json.dumps(
            {"error": {"message": said, "code": exchange.call.headers["x-team"]}}
        ).encode()
        if len(server.calls) == 1:
            await exchange.whole(body, 401, "application/json")
        else:
            await exchange.whole(b"data: " + body + b"\n\n")

    async with serving(script) as server:
        for _ in range(2):
            _, _, error = await read(
                client, spec(server.url, api_key="plain words", headers={"x-team": "blue whale"})
            )
            assert error is not None
            assert "you sent" in error.message
            for secret in ("plain words", "blue whale"):
                assert secret not in f"{error} {error!r} {error.message} {error.code}"


async def test_any_exception_while_reading_fails_the_answer(
    client: HttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that no decoder expects: the consumer gets the project's own error."""

    def broken(_self: ChatDecoder, _data: bytes) -> list[Delta]:
        raise OverflowError("a bug")

    async def script(exchange: Exchange) -> None:
        await exchange.whole(chunk("a") + END)

    monkeypatch.setattr(ChatDecoder, "feed", broken)
    async with serving(script) as server:
        _, _, error = await read(client, spec(server.url))
    assert isinstance(error, Unavailable)
    assert error.code == "unreadable"
