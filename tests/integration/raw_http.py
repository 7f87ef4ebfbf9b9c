"""Requests as bytes: what a strict HTTP server must refuse, and what it must accept."""

import socket

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MANY = b"".join(b"x-%d: 1\r\n" % number for number in range(3000))

REFUSED = {
    "length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 1\r\n\r\n",
    "a list of lengths": POST + b"Content-Length: 1, 1\r\n\r\na",
    "a length with a sign": POST + b"Content-Length: +1\r\n\r\na",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": b"POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: "
    b"chunked\r\n\r\n0\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "a bare line feed after the request line": b"GET / HTTP/1.1\nHost: localhost\r\n\r\n",
    "a bare line feed between headers": b"GET / HTTP/1.1\r\nHost: localhost\nX: a\r\n\r\n",
    "a bare line feed at the end": b"GET / HTTP/1.1\r\nHost: localhost\r\n\n",
    "a bare carriage return": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "a folded first header": b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "a zero byte": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: other\r\n\r\n",
    "thousands of headers": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + MANY + b"\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "a long address": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "an address of another host": b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "another version": b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n",
}
"""Every server of this project refuses these."""

REFUSED_BODIES = {
    "a bare line feed after a chunk's length": CHUNKED + b"1\na\r\n0\r\n\r\n",
    "a bare line feed in a chunk's extension": CHUNKED + b"1;x\na\r\n0\r\n\r\n",
    "a chunk that is longer than it says": CHUNKED + b"1\r\naXX0\r\n\r\n",
    "a chunk's length with a prefix": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "a long chunk extension": CHUNKED + b"1;" + b"x" * 600_000 + b"\r\na\r\n0\r\n\r\n",
    "thousands of trailers": CHUNKED + b"0\r\n" + MANY + b"\r\n",
    "a long trailer": CHUNKED + b"0\r\nX: " + b"a" * 600_000 + b"\r\n\r\n",
    "a folded trailer": CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n",
    "a bare line feed after a trailer": CHUNKED + b"0\r\nX: a\n\r\n",
}
"""For servers that read bodies."""


def answer(port: int, data: bytes, seconds: float = 10.0) -> bytes:
    """The server's output until it closes; b"" for none. Raises TimeoutError if the connection
    stays open.
    """
    said = b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(seconds)
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                said += part
        except (ConnectionResetError, BrokenPipeError):
            pass  # closed while we were still sending
    return said


def first_line(port: int, data: bytes, seconds: float = 10.0) -> bytes:
    """The beginning of the answer, whether or not the server closes."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(seconds)
        connection.sendall(data)
        return connection.recv(65536).partition(b"\r\n")[0]
