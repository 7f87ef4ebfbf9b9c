"""launcher.probes: which answers count as ready."""

import asyncio

import pytest

from tests.listening import listening
from tokenwire.launcher.probes import redis_answers


@pytest.mark.parametrize(
    ("answer", "answers"),
    [
        (b"+PONG\r\n", True),
        (b"-NOAUTH Authentication required.\r\n", True),
        (b"-LOADING Redis is loading the dataset in memory\r\n", False),
        (b"HTTP/1.1 400 Bad Request\r\n", False),
        (b"", False),
    ],
)
async def test_what_redis_says_when_it_takes_commands(answer: bytes, answers: bool) -> None:
    """A server that asks for a password is ready, as the embedded one does; one that is loading is
    not.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"PING\r\n"
        writer.write(answer)

    async with listening(serve) as server:
        assert await redis_answers(f"redis://:password@127.0.0.1:{server.port}/0") is answers
