"""Probes of a port, local or remote: is it free, does Redis answer, is a process ready."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit


def reachable(host: str) -> str:
    """The address under which to call a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound


def free(host: str, port: int) -> Callable[[], Awaitable[bool]]:
    """A probe: whether a server could listen there now."""

    async def question() -> bool:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen()
            except OSError:
                return False
        return True

    return question


async def until(
    question: Callable[[], Awaitable[bool]], seconds: float, pause: float = 0.05
) -> bool:
    """Repeat the probe until it succeeds (True) or `seconds` are over (False)."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while not await question():
                await asyncio.sleep(pause)
            return True
    return False


async def redis_answers(url: str) -> bool:
    """Whether a Redis or Valkey at `url` accepts commands. Addresses without plain TCP (TLS,
    Sentinel, a socket) are not probed.
    """
    address = urlsplit(url)
    if address.scheme != "redis":
        return True
    answer = await _ask(address.hostname or "127.0.0.1", address.port or 6379, b"PING\r\n")
    return answer.startswith((b"+PONG", b"-NOAUTH"))


async def is_ready(host: str, port: int) -> bool:
    """Whether `/readyz` answers 200."""
    answer = await _ask(host, port, b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
    return b" 200 " in answer.split(b"\r\n", 1)[0]


async def _ask(host: str, port: int, question: bytes) -> bytes:
    """The first line of a server's answer; empty if none comes within 2 s."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(question)
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return b""
