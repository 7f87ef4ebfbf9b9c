"""Builds the web app: services in, an ASGI app out. Nothing here reads the environment or
connects.
"""

import contextlib
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from typing import Any, Protocol, cast

import structlog
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from tokenwire import __version__
from tokenwire.config.background import Background
from tokenwire.config.settings import Settings
from tokenwire.models.store import Store
from tokenwire.providers.catalogue import Catalogue
from tokenwire.streams.hub.hub import Hub
from tokenwire.streams.hub.room import HeartbeatPace
from tokenwire.streams.limits.rates import Counting, Rates
from tokenwire.streams.log.ports import Log, PubSub
from tokenwire.streams.tool_names import ReportedTools, keep
from tokenwire.web import health, problems
from tokenwire.web.admission.identity import open_identity
from tokenwire.web.admission.layer import EXPOSED_HEADERS, Admission, Gate
from tokenwire.web.cancels import Cancels
from tokenwire.web.feed.feeds import Feeds
from tokenwire.web.housekeeping import keep_house
from tokenwire.web.http.hosts import Hosts
from tokenwire.web.http.middleware import KnownHosts, LastErrorHandler, Surroundings
from tokenwire.web.http.streaming import Places
from tokenwire.web.metrics import Metrics
from tokenwire.web.offers import Offers
from tokenwire.web.readers import Readers
from tokenwire.web.readiness import Readiness
from tokenwire.web.services import WebServices
from tokenwire.worker.enqueue import Jobs
from tokenwire.worker.packing import Packing

log_line = structlog.get_logger(__name__)

DIALECTS = ("api", "events", "aisdk", "feed", "openai", "page")
"""The folders of `web` whose routes are served. A new dialect is its folder and its name here."""


class _Routes(Protocol):
    """The module `routes` of a dialect."""

    def install(self, app: FastAPI) -> None:
        """Serve the dialect. It may also register its form of refusals (`web/http/refusals.py`)."""


_ROUTES: list[_Routes] = [
    cast("Any", import_module(f"tokenwire.web.{name}.routes")) for name in DIALECTS
]

_DESCRIPTION = (
    "A reply is a job: it is accepted at once, written by a worker, and followed "
    "over a WebSocket by any number of readers."
)


def create_app(
    settings: Settings,
    store: Store,
    log: Log,
    pubsub: PubSub,
    jobs: Jobs,
    catalogue: Catalogue,
    counting: Counting | None = None,
    tool_names: ReportedTools | None = None,
) -> FastAPI:
    """The app over these services. The caller closes all of them except `pubsub`.

    `counting`: the counter shared by all web processes; without it each counts alone. `tool_names`:
    what workers report. Raises ValueError for a missing setting.
    """
    public = settings.mode == "production"
    hub, background, packing = Hub(log, pubsub), Background(), Packing(log)
    services = _services(settings, store, log, hub, jobs, catalogue)
    app = FastAPI(
        title="Tokenwire",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None if public else "/openapi.json",
        lifespan=_lifespan(background, services, hub, packing, tool_names),
        # Swagger's page loads foreign scripts, which the page's security policy forbids
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.background, app.state.services = background, services
    app.state.gate = Gate(
        settings,
        services.identify,
        Rates(counting, services.metrics.counted_alone.inc),
        services.metrics,
    )
    _add_routes(app, public=public)
    _add_layers(app, services, app.state.gate)
    # FastAPI's own way to change the document.
    app.openapi = _documented(app)  # type: ignore[method-assign]
    return app


def _services(
    settings: Settings, store: Store, log: Log, hub: Hub, jobs: Jobs, catalogue: Catalogue
) -> WebServices:
    if settings.token_key is None:
        raise ValueError("TOKEN_KEY is missing")
    pace = HeartbeatPace(settings.heartbeat_running_seconds, settings.heartbeat_idle_seconds)
    places, metrics = Places(settings.max_streams), Metrics()
    metrics.streams.set_function(lambda: places.taken)
    return WebServices(
        settings=settings,
        store=store,
        log=log,
        jobs=jobs,
        offers=Offers(catalogue),
        hosts=Hosts(settings),
        identify=open_identity(settings),
        token_key=settings.token_key.get_secret_value(),
        metrics=metrics,
        readers=Readers(hub, pace),
        feeds=Feeds(store, hub, pace),
        places=places,
        cancels=Cancels(store, log, jobs),
        readiness=Readiness(store, log),
    )


def _add_routes(app: FastAPI, *, public: bool) -> None:
    problems.install(app)
    for routes in _ROUTES:
        routes.install(app)
    app.include_router(health.router)
    if not public:
        app.include_router(health.internals)


def _add_layers(app: FastAPI, services: WebServices, gate: Gate) -> None:
    """The last added layer is the outermost."""
    app.add_middleware(Admission, gate=gate)
    app.add_middleware(KnownHosts, hosts=services.hosts)
    app.add_middleware(LastErrorHandler)
    if services.settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=services.settings.origins,
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
            max_age=600,
        )
    app.add_middleware(Surroundings, metrics=services.metrics, hosts=services.hosts)


def end_streams(app: FastAPI) -> None:
    """End all streamed answers, when the process stops."""
    app.state.services.readers.stop()
    app.state.services.feeds.stop()


def _lifespan(
    background: Background,
    services: WebServices,
    hub: Hub,
    packing: Packing,
    tool_names: ReportedTools | None,
) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async def read_tools() -> None:
            if tool_names is not None:
                services.offers.note_tools(await tool_names.read())

        await services.offers.probe_until_found()
        await hub.start()
        services.feeds.start()
        background.start("offers", services.offers.watch)
        background.start("tool names", lambda: keep(read_tools))
        background.start("packing", packing.run)
        background.start("housekeeping", lambda: keep_house(services.store, services.log))
        yield
        await background.aclose()
        await services.cancels.aclose()
        await services.feeds.aclose()
        await hub.aclose()

    return lifespan


def _documented(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """OpenAPI with the real refusals: problem documents instead of FastAPI's error shape, which
    never occurs.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        schemas = document["components"]["schemas"]
        schemas["Problem"] = problems.Problem.model_json_schema(
            ref_template="#/components/schemas/{model}"
        )
        schemas |= schemas["Problem"].pop("$defs", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for operation in (
            operation for path in document["paths"].values() for operation in path.values()
        ):
            # FastAPI assumes a 422 for routes without one in their list: those routes answer 404
            # instead.
            if operation["responses"].get("422", {}).get("description") == "Validation Error":
                del operation["responses"]["422"]
        return document

    return openapi
