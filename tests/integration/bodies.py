"""Bodies of the maximum length in the shapes that cost a reader most, and how long the event loop
stands still for them.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Collection, Iterator
from typing import Self

from tokenwire.web.http import census

MIB = 1024 * 1024
MOST_VALUES = 99_000
"""A little less than MAX_BODY_VALUES."""
SURROGATE = b"\\ud800"
"""Valid as a JSON escape, but not as text."""


def filled(unit: bytes, length: int, begin: bytes, end: bytes, most: int = MOST_VALUES) -> bytes:
    """`unit` repeated with commas, about `length` bytes, within the limit of values."""
    count = min(
        (length - len(begin) - len(end)) // (len(unit) + 1), most // (1 + census.take(unit).values)
    )
    return begin + b",".join([unit] * count) + end


def text(unit: bytes, length: int, begin: bytes, end: bytes) -> bytes:
    """One string of about `length` bytes."""
    return begin + b'"' + unit * ((length - len(begin) - len(end) - 2) // len(unit)) + b'"' + end


def names(length: int, begin: bytes, end: bytes) -> bytes:
    """Very many members."""
    return (
        begin
        + b",".join(b'"%d":0' % number for number in range(min(length // 12, MOST_VALUES)))
        + end
    )


def shapes(begin: bytes, end: bytes, unit: bytes, length: int) -> dict[str, Callable[[], bytes]]:
    """Bodies with a value between `begin` and `end`, made when they are called for; `unit`: an
    expected item of a list there.
    """
    broken = unit.replace(b"hi", SURROGATE) + b","
    return {
        "a text": lambda: text(b"x", length, begin, end),
        "a text that is not ASCII": lambda: text("é".encode(), length, begin, end),
        "escapes": lambda: text(b"\\u00e9", length, begin, end),
        "half characters": lambda: text(SURROGATE, length, begin, end),
        "numbers": lambda: filled(b"0", length, begin + b"[", b"]" + end),
        "fractions": lambda: filled(b"0.1", length, begin + b"[", b"]" + end),
        "strings": lambda: filled(b'""', length, begin + b"[", b"]" + end),
        "lists": lambda: filled(b"[]", length, begin + b"[", b"]" + end),
        "more lists than may be": lambda: filled(b"[]", length, begin + b"[", b"]" + end, 10**9),
        "objects": lambda: filled(b"{}", length, begin + b"[", b"]" + end),
        "members": lambda: names(length, begin + b"{", b"}" + end),
        "members of the body": lambda: names(length, begin + b"0,", end),
        "what is meant": lambda: filled(unit, length, begin + b"[", b"]" + end),
        "what is meant, once broken": lambda: filled(
            unit, length, begin + b"[" + broken, b"]" + end
        ),
        "what is meant, and long": lambda: filled(
            unit.replace(b"hi", b"x" * 1000), length, begin + b"[", b"]" + end
        ),
        "brackets": lambda: begin + b"[" * (length - 100),
        "quotes": lambda: begin + b'"' * (length - 100),
    }


SAID = b'{"role":"user","content":"hi"}'
UI_MESSAGE = b'{"id":"m","role":"user","parts":[{"type":"text","text":"hi"}]}'
DIALECTS: dict[str, tuple[str, bytes, bytes, bytes, int]] = {
    "responses": (
        "/v1/responses",
        b'{"model":"demo","background":true,"input":',
        b"}",
        SAID,
        8 * MIB,
    ),
    "chat completions": (
        "/v1/chat/completions",
        b'{"model":"demo","messages":',
        b"}",
        SAID,
        8 * MIB,
    ),
    "metadata": (
        "/v1/responses",
        b'{"model":"demo","input":"hi","background":true,"metadata":',
        b"}",
        SAID,
        8 * MIB,
    ),
    "AI SDK": ("/api/chat", b'{"id":"c","messages":', b"}", UI_MESSAGE, 8 * MIB),
    "posts": ("/api/conversations", b'{"title":', b"}", SAID, 800 * 1024),
    "useObject": ("/api/object", b"", b"", SAID, 800 * 1024),
}
"""Path, the JSON around the value, the expected item, and the approximate maximum length."""


def bodies(dialect: str, wanted: Collection[str] = ()) -> Iterator[tuple[str, str, bytes]]:
    """(path, shape, body), of these shapes or of all."""
    path, begin, end, unit, length = DIALECTS[dialect]
    for shape, body in shapes(begin, end, unit, length - 64).items():
        if not wanted or shape in wanted:
            yield path, shape, body()


def post(port: int, path: str, body: bytes) -> int:
    """The status of the answer; 0: the server waits for more. A bare socket, so that sending costs
    this process only copies.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: "
        f"{len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(head.encode())
        with contextlib.suppress(ConnectionError):  # refused before its end
            connection.sendall(body)
        connection.settimeout(5)
        with contextlib.suppress(TimeoutError):
            return int(connection.recv(65536).split(b" ", 2)[1])
        return 0


class Standstill:
    """The longest time between two turns of the loop; a context manager.

    `seconds`: by the clock. `cpu_seconds`: the processor time of all threads of this process, which
    a busy machine does not lengthen.
    """

    PAUSE_SECONDS = 0.001

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        clock: Callable[[], float] = asyncio.get_running_loop().time
        while True:
            before, computed = clock(), time.process_time()
            await asyncio.sleep(self.PAUSE_SECONDS)
            self.seconds = max(self.seconds, clock() - before - self.PAUSE_SECONDS)
            self.cpu_seconds = max(self.cpu_seconds, time.process_time() - computed)
