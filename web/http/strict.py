"""Strict HTTP/1.1: requests that two servers could read differently are refused (400), and the
connection is closed.

A proxy and the server behind it must agree on the end of a request; otherwise a request can be
hidden inside another. llhttp (httptools) refuses bare line feeds, folded headers, and
Content-Length beside Transfer-Encoding or twice. This module refuses the rest: transfer codings
other than `chunked`, none or several `Host` headers, versions other than 1.0 and 1.1, and too many
bytes around the body (address, headers, chunk headers, trailers). Trailers are counted and dropped:
no header comes after the body.
"""

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tokenwire.web.http.refusals import refusal
from tokenwire.web.problems import ApiProblem

OVERHEAD_PER_BODY_BYTE = 8
"""Clients may send short chunks: each byte of the body allows this many bytes of chunk headers."""

_HOST = re.compile(rb"[0-9A-Za-z._~!$&'()*+,;=%\[\]:-]*")


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """`size`: bytes of address, headers, and everything around the body. `headers`: their number,
    trailers included.
    """

    size: int
    headers: int


class StrictProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with the checks above. Its configuration sets `head`."""

    head: ClassVar[HeadLimits]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.url = b""
        self._received = self._body = self._head = self._lines = 0
        self._head_is_read = False

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        super().data_received(data)
        # The parser holds unfinished input: that must not grow either.
        if (
            self._received - self._body > self.head.size + OVERHEAD_PER_BODY_BYTE * self._body
            and not self.transport.is_closing()
        ):
            self.send_400_response("The headers are too long.")

    def send_400_response(self, msg: str) -> None:
        """Refuse in the form of the dialect, and close. An answer that has begun is cut instead,
        since the refusal would become a part of it.
        """
        begun = (
            self.cycle is not None
            and not self.cycle.response_complete
            and self.cycle.response_started
        )
        if not begun:
            path = self.url.partition(b"?")[0].decode("latin-1")
            answer = refusal(path, ApiProblem("bad_request", msg, {"Connection": "close"}))
            headers = b"".join(b"%b: %b\r\n" % header for header in answer.raw_headers)
            self.transport.write(
                STATUS_LINE[answer.status_code] + headers + b"\r\n" + bytes(answer.body)
            )
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head, self._lines, self._head_is_read = 0, 0, False

    def on_url(self, url: bytes) -> None:
        """A part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header or, after the body, a trailer."""
        self._lines += 1
        self._count(len(name) + len(value) + 4)
        if not self._head_is_read:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head of a request is read."""
        self._head_is_read = True
        _check(self.parser.get_http_version(), self.url, self.headers)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has ended."""
        super().on_message_complete()
        self._received = self._body = 0

    def _count(self, length: int) -> None:
        self._head += length
        if self._head > self.head.size or self._lines > self.head.headers:
            raise httptools.HttpParserError("the head is too long")


def _check(version: str, url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """Raises HttpParserError."""
    if version not in ("1.0", "1.1"):
        raise httptools.HttpParserError("another version of HTTP")
    hosts = [value for name, value in headers if name == b"host"]
    if (
        len(hosts) > 1
        or (not hosts and version == "1.1")
        or not all(_HOST.fullmatch(host) for host in hosts)
    ):
        raise httptools.HttpParserError("not one Host header")
    if b"://" in url.partition(b"?")[0] and url.split(b"/", 3)[2].lower() not in [
        host.lower() for host in hosts
    ]:
        raise httptools.HttpParserError("the address and the Host header name two hosts")
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings and (version == "1.0" or [coding.lower() for coding in codings] != [b"chunked"]):
        raise httptools.HttpParserError("a transfer coding other than chunked")
