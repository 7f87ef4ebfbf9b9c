"""The names of the tools that workers have, for web processes, which cannot load these tools.

Guarantees: `read` gives every name that a worker has reported within LIFE_SECONDS, and none that
nobody has reported for longer. It promises no more: each worker still checks for itself.

Why it works this way: tools are modules of the application, with keys and packages that only
workers have, and those of MCP servers come and go. A refusal is worth most when the request
arrives, so workers report what they have. Redis' own clock dates the names: those of processes
differ.

Rejected: rows in SQL (the names mean nothing without a living worker); a key for each worker
(reading them needs a scan).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import redis.asyncio
import structlog

from tokenwire.streams.log import keys
from tokenwire.streams.log.outages import cannot_serve

log_line = structlog.get_logger(__name__)

LIFE_SECONDS = 60
INTERVAL_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0
_PLACES = {True: "client", False: "server"}


class ReportedTools:
    """On the server at `url`: redis://, rediss:// or unix://. Connects at its first use.

    A mapping of names says for each whether a client executes the tool. Raises redis.RedisError,
    OSError or TimeoutError without the server.
    """

    def __init__(self, url: str) -> None:
        self._client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS
        )

    async def report(self, names: Mapping[str, bool]) -> None:
        """This worker has these tools now."""
        async with self._asking():
            seconds, _ = await self._client.time()
            members = {f"{_PLACES[at_client]} {name}": seconds for name, at_client in names.items()}
            async with self._client.pipeline(transaction=True) as commands:
                if members:
                    commands.zadd(keys.TOOLS, members)
                commands.zremrangebyscore(keys.TOOLS, "-inf", seconds - LIFE_SECONDS)
                await commands.execute()

    async def read(self) -> Mapping[str, bool]:
        """The tools of all living workers."""
        async with self._asking():
            seconds, _ = await self._client.time()
            found: Any = await self._client.zrangebyscore(
                keys.TOOLS, f"({seconds - LIFE_SECONDS}", "+inf"
            )
        pairs = [member.decode().partition(" ") for member in found]
        return {name: place == _PLACES[True] for place, _, name in pairs}

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """If the server cannot serve, close all connections: after a failover they would lead to
        the demoted server.
        """
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                yield
        except redis.RedisError as error:
            if cannot_serve(error):
                await self._client.connection_pool.disconnect(inuse_connections=False)
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


async def keep(act: Callable[[], Awaitable[None]]) -> None:
    """Report or read again and again, for ever. While Redis is away, what was known stays."""
    is_away = False
    while True:
        try:
            await act()
            is_away = False
        except (redis.RedisError, OSError, TimeoutError) as error:
            if not is_away:  # one line for an outage, not one for each try
                log_line.warning("the names of tools are not up to date", error=repr(error))
            is_away = True
        await asyncio.sleep(INTERVAL_SECONDS)
