"""The metrics of a process, served in Prometheus' text format on a port of its own.

Each package counts in its own `metrics` module; counts of every process are here. A process may add
a registry (web does, for its requests).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, start_http_server

log_line = structlog.get_logger(__name__)

REGISTRY = CollectorRegistry()
"""Counts of this process. Not prometheus-client's global registry, in which libraries register
their own.
"""

TASK_FAILURES = Counter(
    "tokenwire_task_failures",
    "Unexpected failures of background tasks, which are run again",
    ["task"],
    registry=REGISTRY,
)
SILENCE_SECONDS = 10.0


@contextlib.contextmanager
def served(host: str, port: int, registry: CollectorRegistry = REGISTRY) -> Iterator[None]:
    """Serve them at `http://host:port/metrics` during the block (port 0: nowhere), in a thread of
    its own.

    A port that is taken is logged and costs the metrics, not the process: a deploy may run two
    versions side by side.
    """
    if not port:
        yield
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        place = {"host": host, "port": port}
        # No traceback: the reason says it all.
        log_line.error("cannot serve metrics", **place, error=str(error))  # noqa: TRY400
        yield
        return
    # A silent connection would keep its thread.
    handler: Any = server.RequestHandlerClass
    handler.timeout = SILENCE_SECONDS
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
