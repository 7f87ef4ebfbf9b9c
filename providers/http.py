"""The HTTP client: httpx, over connections of `transport`.

One `HttpClient` serves a process. It handles bytes, headers and timeouts, not their meaning.
Transport errors become `Unavailable`. Leaving a reply's context closes its connection at once
unless the body was read to its end, so that an abandoned answer costs nothing more.
"""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpx

from tokenwire.providers.base import CONNECT_ERROR, STALE_CONNECTION, AnswerTooLarge, Unavailable
from tokenwire.providers.transport import Sending, Transport, best

ERROR_BODY_BYTES = 64 * 1024
STEP_BYTES = 256 * 1024
"""Maximum size of a decompressed piece; other tasks run between two pieces."""
FREE_GROWTH_BYTES = 8 * 1024 * 1024
MAX_GROWTH = 100
"""Maximum growth of a compressed body longer than `FREE_GROWTH_BYTES`. Zlib allows 1032."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `read` is silence on the socket, including the wait for headers: a busy llama.cpp
    sends none before its first token.
    """

    connect: float = 10.0
    read: float = 300.0
    write: float = 60.0


class Reply:
    """An HTTP answer with an unread body. Header names are lower-case."""

    def __init__(self, response: httpx.Response, transport: Transport) -> None:
        self._response = response
        self._transport = transport
        self.status = response.status_code
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The body, one network read at a time. Raises Unavailable when the connection breaks or
        stalls.
        """
        inflater = _inflater(self.headers.get("content-encoding", ""))
        try:
            stream = self._response.stream
            if not isinstance(stream, httpx.AsyncByteStream):
                raise TypeError("the transport gave no asynchronous stream")
            async for data in stream:
                if inflater is None:
                    yield data
                    continue
                for piece in inflater.inflated(data):
                    yield piece
                    await asyncio.sleep(0)
        except zlib.error as error:
            raise Unavailable(
                f"the body is not what its header says: {error}", code="bad_encoding"
            ) from error
        except self._transport.errors as error:
            if self._transport.timed_out(error):
                raise Unavailable("the provider fell silent", code="read_timeout") from error
            raise Unavailable(
                f"the connection broke: {_error_text(error)}", code="connection_lost"
            ) from error

    async def beginning(self) -> bytes:
        """The available beginning of an error's body; a break in it does not matter."""
        body = bytearray()
        with suppress(Unavailable, AnswerTooLarge):
            async with aclosing(self.chunks()) as chunks:
                async for piece in chunks:
                    body += piece
                    if len(body) >= ERROR_BODY_BYTES:
                        break
        return bytes(body[:ERROR_BODY_BYTES])

    async def whole(self, limit: int) -> bytes:
        """The whole body. Raises Unavailable, and AnswerTooLarge beyond `limit` bytes."""
        body = bytearray()
        async with aclosing(self.chunks()) as chunks:
            async for piece in chunks:
                body += piece
                if len(body) > limit:
                    raise AnswerTooLarge(f"the body has more than {limit} bytes", code="too_large")
        return bytes(body)


def _inflater(encoding: str) -> "_Inflater | None":
    """Some servers compress although the request refused it."""
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _Inflater()
    raise Unavailable(f"the body is encoded as {encoding}, unasked", code="bad_encoding")


class _Inflater:
    """Decompresses gzip or zlib, whichever it is, in bounded pieces."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=47)
        self._received = self._grown = 0

    def inflated(self, data: bytes) -> Iterator[bytes]:
        """The output that `data` completes. Raises zlib.error, and AnswerTooLarge for extreme
        growth.
        """
        self._received += len(data)
        while data or not self._stream.eof:
            if self._stream.eof:  # gzip: one part may follow another
                self._stream = zlib.decompressobj(wbits=47)
            piece = self._stream.decompress(data, STEP_BYTES)
            data = self._stream.unconsumed_tail or self._stream.unused_data
            self._grown += len(piece)
            if self._grown > max(FREE_GROWTH_BYTES, MAX_GROWTH * self._received):
                raise AnswerTooLarge(
                    f"the body swells to more than {MAX_GROWTH} times its size", code="too_large"
                )
            if piece:
                yield piece
            if not data and len(piece) < STEP_BYTES:
                return


class HttpClient:
    """A pool of connections. `SSL_CERT_FILE` of the environment is honoured, proxies are not.

    A request without TLS has its own connection, unless `reuse_plain`. Such servers are near, so it
    costs little, and some of them (llama.cpp) close it silently after each answer: the next request
    would fail on it. `once`: each request has its own connection.
    """

    def __init__(
        self,
        timeouts: Timeouts | None = None,
        max_connections: int = 10_000,
        *,
        reuse_plain: bool = False,
        once: bool = False,
        transport: Transport | None = None,
    ) -> None:
        self._timeouts = timeouts or Timeouts()
        self._transport = transport or best()
        tls = httpx.create_ssl_context()
        pooled = self._transport.open(tls, max_connections, once=once)
        plain = pooled if reuse_plain else self._transport.open(tls, max_connections, once=True)
        cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        options: dict[str, Any] = {
            "cookies": cookies,
            "timeout": None,
            "trust_env": False,
        }  # each call has its own timeout
        self._client = httpx.AsyncClient(transport=pooled, mounts={"http://": plain}, **options)

    @asynccontextmanager
    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> AsyncIterator[Reply]:
        """Send once; returns the answer with its headers. Raises Unavailable if none comes.

        A failed request is never repeated here: its receiver may be working on it, for money.
        """
        sending = Sending()
        try:
            response = await self._send(method, url, headers, body, sending)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise Unavailable(
                f"not a usable address: {_error_text(error)}", code="bad_url", no_run=True
            ) from error
        except self._transport.errors as error:
            raise self._unanswered(error, sending) from error
        try:
            yield Reply(response, self._transport)
        finally:
            # It is closed in any case, so its error does not matter.
            with suppress(*self._transport.errors):
                await response.aclose()

    async def _send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        sending: Sending,
    ) -> httpx.Response:
        times = self._timeouts
        timeout = httpx.Timeout(
            connect=times.connect, read=times.read, write=times.write, pool=times.connect
        )
        # Compressed streams arrive in lumps: proxies flush gzip rarely.
        headers = {"accept-encoding": "identity", **headers}
        with self._transport.noting(sending) as extensions:
            request = self._client.build_request(
                method, url, headers=headers, content=body, timeout=timeout, extensions=extensions
            )
            return await self._client.send(request, stream=True)

    def _unanswered(self, error: BaseException, sending: Sending) -> Unavailable:
        """The error if no headers came. Only a failure before the first sent byte proves that
        nobody received the request.
        """
        unsent = self._transport.unsent(error)
        if self._transport.timed_out(error):
            return Unavailable("the provider did not answer in time", code="timeout", no_run=unsent)
        if unsent:
            return Unavailable(
                f"cannot reach the server: {_error_text(error)}", code=CONNECT_ERROR, no_run=True
            )
        # A server may close a pooled connection just when it is reused.
        code = (
            STALE_CONNECTION
            if sending.reused and self._transport.closed(error)
            else "connection_lost"
        )
        return Unavailable(
            f"the connection broke before an answer: {_error_text(error)}", code=code
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()


def _error_text(error: BaseException) -> str:
    return str(error) or type(error).__name__
