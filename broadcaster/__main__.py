"""`python -m tokenwire.broadcaster`: relays the logs of conversations to readers with a token.

It needs Redis and the token key, and no database.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Callable

import structlog

from tokenwire.broadcaster.metrics import READERS
from tokenwire.broadcaster.readers import SocketReaders
from tokenwire.broadcaster.server import Caps, Server
from tokenwire.config import logs, metrics, startup, stopping
from tokenwire.config.arguments import refuse_arguments
from tokenwire.config.settings import Settings, load
from tokenwire.protocol.tokens import check_key
from tokenwire.streams.addresses import Addresses
from tokenwire.streams.hub.hub import Hub, RedisPubSub
from tokenwire.streams.hub.room import HeartbeatPace
from tokenwire.streams.log.redis import RedisLog

GARBAGE_THRESHOLD = 50_000
"""Objects between two collections of cyclic garbage.

With the default of 700, every few hundred events would pay for a walk over all connections.
"""


async def run(settings: Settings, key: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    stopping.on_stop(stop.set)
    log, pubsub = RedisLog(settings.redis), RedisPubSub(settings.redis)
    hub = Hub(log, pubsub)
    pace = HeartbeatPace(settings.heartbeat_running_seconds, settings.heartbeat_idle_seconds)

    async def ready() -> str | None:
        return await log.check() or (None if pubsub.connected else "no pub/sub connection to Redis")

    readers = SocketReaders(hub, key, pace, settings.max_open_per_user or None)
    READERS.set_function(lambda: len(readers.all))
    server = Server(readers, ready, _caps(settings))
    await hub.start()
    try:
        with metrics.served(settings.metrics_host, settings.metrics_port):
            async with startup.asking({"redis": (log.check,)}):
                port = await server.start(
                    settings.broadcaster_host,
                    settings.broadcaster_port,
                    reuse_port=settings.broadcasters > 1,
                )
                structlog.get_logger("tokenwire.broadcaster").info(
                    "listening", host=settings.broadcaster_host, port=port
                )
                await stop.wait()
                await server.stop()
    finally:
        await hub.aclose()
        await log.aclose()


def _caps(settings: Settings) -> Caps:
    return Caps(
        settings.max_connections,
        settings.max_open_per_address or None,
        Addresses(settings.forwarded_allow_ips),
        settings.max_head_bytes,
        settings.max_headers,
        settings.stalled_seconds,
    )


def key_of(settings: Settings) -> str:
    """The token key. Raises ValueError if it is missing or unusable."""
    if settings.token_key is None:
        raise ValueError("TOKEN_KEY is missing")
    key = settings.token_key.get_secret_value()
    check_key(key)
    return key


def main() -> None:
    """Run with settings from the environment. A wrong setting ends the process with one line."""
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 100)
    settings = load()
    logs.setup_for(settings)
    try:
        key = key_of(settings)
    except ValueError as error:
        sys.stderr.write(f"tokenwire: wrong setting: {error}\n")
        raise SystemExit(os.EX_CONFIG) from None
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(run(settings, key))
    except OSError as error:
        structlog.get_logger("tokenwire.broadcaster").error("cannot serve", error=str(error))
        raise SystemExit(1) from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # no wheel for this system: use asyncio's own loop
        return None
    return uvloop.new_event_loop


if __name__ == "__main__":
    refuse_arguments()
    main()
