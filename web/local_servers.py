"""Who answers at the address of a local model server: asked over HTTP, since several of them share their usual port.

llama.cpp and LocalAI both listen on 8080, vLLM on 8000, where Tokenwire itself may be. A server is known by the list of models that it
gives out (`owned_by`). At an address that the catalogue names itself, whatever answers is meant, save Tokenwire.
"""

import asyncio
import contextlib
import re
from enum import Enum, auto
from urllib.parse import SplitResult, urlsplit

from tokenwire.providers.catalogue import LocalServer

CONNECT_SECONDS = 0.3
"""A local server that takes longer to accept a connection is not there."""
ANSWER_SECONDS = 1.0
"""One that takes longer to answer is busy."""
MAX_BYTES = 256 * 1024

_OWNER = re.compile(rb'"owned_by"\s*:\s*"([^"]*)"')
_OWNERS = {"llamacpp": b"llamacpp", "vllm": b"vllm"}
"""What these call themselves."""
_OURSELVES = b"tokenwire"


def is_meant(server: LocalServer, answer: bytes) -> bool:
    """Pure: whether the HTTP answer to a request for the models comes from a server of that kind."""
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
    """What is at the address of a local server."""

    MEANT = auto()
    BUSY = auto()
    """It accepts connections and does not answer in time."""
    NOBODY = auto()
    ANOTHER = auto()


async def probe(server: LocalServer) -> ProbeResult:
    """Ask it once."""
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
            writer.write(_question(parts))
            return (
                ProbeResult.MEANT
                if is_meant(server, await _all_of(reader))
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


def _question(address: SplitResult) -> bytes:
    path = address.path.rstrip("/")
    path = (
        path if path.endswith("/v1") else f"{path}/v1"
    )  # where Ollama has it, too, whose own API is elsewhere
    host = address.netloc.rpartition("@")[2]
    return (
        f"GET {path}/models HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode()
    )


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    while len(answer) < MAX_BYTES and (piece := await reader.read(MAX_BYTES)):
        answer += piece
    return answer
