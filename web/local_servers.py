"""Which server is at the address of a local model server: checked over HTTP, since several share
their usual port.

llama.cpp and LocalAI both listen on 8080, vLLM on 8000, like Tokenwire itself. A server is
identified by its list of models (`owned_by`). At an address that the catalogue names itself, any
server counts except Tokenwire.
"""

import asyncio
import contextlib
import re
from enum import Enum, auto
from urllib.parse import SplitResult, urlsplit

from tokenwire.providers.catalogue import LocalServer

CONNECT_SECONDS = 0.3
"""A local server that accepts connections more slowly counts as absent."""
ANSWER_SECONDS = 1.0
"""One that answers more slowly counts as busy."""
MAX_BYTES = 256 * 1024

_OWNER = re.compile(rb'"owned_by"\s*:\s*"([^"]*)"')
_OWNERS = {"llamacpp": b"llamacpp", "vllm": b"vllm"}
"""The names that servers give themselves."""
_OURSELVES = b"tokenwire"


def is_meant(server: LocalServer, answer: bytes) -> bool:
    """Pure: whether the HTTP answer to a request for the models is from a server of that kind."""
    head, _, body = answer.partition(b"\r\n\r\n")
    owners = set(_OWNER.findall(body))
    if _OURSELVES in owners or not head.startswith(b"HTTP/"):
        return False
    if not server.usual:
        return True
    if b" 200" not in head.split(b"\r\n", 1)[0] or b'"data"' not in body:
        return False
    if server.kind in _OWNERS:
        return _OWNERS[server.kind] in owners
    return not owners & set(_OWNERS.values())


class ProbeResult(Enum):
    """The result of probing a local server's address."""

    MEANT = auto()
    BUSY = auto()
    """The server accepts connections, but does not answer in time."""
    NOBODY = auto()
    ANOTHER = auto()


async def probe(server: LocalServer) -> ProbeResult:
    """Probe it once."""
    parts = urlsplit(server.url)
    tls = parts.scheme == "https"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or (443 if tls else 80), ssl=tls or None
            )
    except OSError:  # refused, unknown host, too slow
        return ProbeResult.NOBODY
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            writer.write(_request_bytes(parts))
            return (
                ProbeResult.MEANT
                if is_meant(server, await _read_all(reader))
                else ProbeResult.ANOTHER
            )
    except TimeoutError:
        return ProbeResult.BUSY
    except OSError:
        return ProbeResult.NOBODY
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _request_bytes(address: SplitResult) -> bytes:
    path = address.path.rstrip("/")
    path = (
        path if path.endswith("/v1") else f"{path}/v1"
    )  # Ollama has this path too, but its own API is elsewhere
    host = address.netloc.rpartition("@")[2]
    return (
        f"GET {path}/models HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode()
    )


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    while len(answer) < MAX_BYTES and (piece := await reader.read(MAX_BYTES)):
        answer += piece
    return answer
