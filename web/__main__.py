"""`python -m tokenwire.web`: one process that serves the API and the page until it is stopped."""
# ruff: noqa: E402

import gc

gc.disable()  # nothing is garbage while modules load: looking for it took a fifth of the start

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Iterator

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI

from tokenwire.config import logs, metrics, settings, startup, stopping
from tokenwire.config.arguments import refuse_arguments
from tokenwire.config.background import EXIT_TASK_ENDED
from tokenwire.models.quotas import Quotas
from tokenwire.models.store import Store
from tokenwire.providers import catalogue
from tokenwire.streams.hub.hub import RedisPubSub
from tokenwire.streams.limits.rates import RedisRates
from tokenwire.streams.log.ports import Limits, PubSub
from tokenwire.streams.log.redis import RedisLog
from tokenwire.streams.tool_names import ReportedTools
from tokenwire.web.app import create_app, end_streams
from tokenwire.web.http.connections import configured
from tokenwire.worker.enqueue import Jobs
from tokenwire.worker.needs import needs

gc.freeze()
gc.enable()

log_line = structlog.get_logger(__name__)

STOP_SECONDS = 1
"""How long requests may continue after the stop signal; then they are cut."""
BACKLOG = 2048
SWITCH_SECONDS = 0.0005
"""How long a thread may keep Python's lock from others; the default is ten times that.

The event loop releases the lock at each wait, several times per request. While a thread parses a
long body (`aside`), the loop would wait this long each time to get it back.
"""
EXIT_PORT_TAKEN = 3


class _WebServer(uvicorn.Server):
    """Ends by returning, so that connections are closed in order; uvicorn would raise the signal
    again.

    Endless streams are ended before open requests are waited for.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def stop(self) -> None:
        """Stop as on a signal."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            log_line.info("listening", host=self.config.host, port=self.config.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end_streams(self._app)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        stopping.on_stop(self.stop)
        yield


def main() -> None:
    """Serve until SIGTERM or SIGINT (exit code 0); 78 for a wrong setting, 3 for a port in use, 70
    if a task ended.
    """
    found = settings.load(needs=["redis_url", "token_key", "database_url"])
    models = catalogue.load_or_exit(found.models_file, settings.variables())
    logs.setup_for(found, models.secrets)
    _quieten(logging.getLogger("uvicorn.error"))
    sys.setswitchinterval(SWITCH_SECONDS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(found, models))


def _quieten(server: logging.Logger) -> None:
    """No log of each WebSocket's address with its query, and none of each chat stream that is cut
    at the stop.
    """
    server.setLevel(logging.WARNING)
    server.addFilter(lambda record: "without completing response" not in record.getMessage())


async def _serve(found: settings.Settings, models: catalogue.Catalogue) -> None:
    store = _open_store(found)
    log = RedisLog(found.redis, Limits.of(found))
    jobs, rates, tools = Jobs(found.redis), RedisRates(found.redis), ReportedTools(found.redis)
    try:
        app = _app(found, store, log, RedisPubSub(found.redis), jobs, models, rates, tools)
        if not app.state.services.hosts.has_name:
            log_line.warning(
                "only localhost can post: set ALLOWED_HOSTS to the names of this site, or "
                "BROADCASTER_URL"
            )
        config = configured(app, found, app.state.gate, timeout_graceful_shutdown=STOP_SECONDS)
        server = _WebServer(config, app)
        app.state.background.when_ended(server.stop)
        with metrics.served(
            found.metrics_host, found.metrics_port, app.state.services.metrics.registry
        ):
            async with startup.asking(needs(store, log)):
                await server.serve(_shared_port(found))
        if app.state.background.ended is not None:
            raise SystemExit(EXIT_TASK_ENDED)
    finally:
        opened = (jobs, log, store, rates, tools)
        await asyncio.gather(*(each.aclose() for each in opened))


def _shared_port(found: settings.Settings) -> list[socket.socket] | None:
    """A socket of our own if several web processes share a port; None: uvicorn creates an exclusive
    one.
    """
    if found.webs == 1:
        return None
    family = socket.AF_INET6 if ":" in found.host else socket.AF_INET
    try:
        return [
            socket.create_server(
                (found.host, found.port), family=family, backlog=BACKLOG, reuse_port=True
            )
        ]
    except OSError as error:
        log_line.error("cannot serve", error=str(error))  # noqa: TRY400 -- the reason says it all
        raise SystemExit(EXIT_PORT_TAKEN) from None


def _app(
    found: settings.Settings,
    store: Store,
    log: RedisLog,
    pubsub: PubSub,
    jobs: Jobs,
    models: catalogue.Catalogue,
    rates: RedisRates,
    tools: ReportedTools,
) -> FastAPI:
    try:
        return create_app(found, store, log, pubsub, jobs, models, rates, tools)
    except ValueError as error:
        settings.stop(str(error))


def _open_store(found: settings.Settings) -> Store:
    try:
        return Store.open(
            found.database_url, Quotas.of(found), timeout_seconds=found.database_timeout_seconds
        )
    except ValueError as error:
        settings.stop(str(error))


if __name__ == "__main__":
    refuse_arguments()
    main()
