"""`/healthz` (the process answers), `/readyz` (its services work), `/metrics`. None needs a
login.
"""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tokenwire.web.api import shapes
from tokenwire.web.problems import ApiProblem, documented
from tokenwire.web.services import With

router = APIRouter()
internals = APIRouter()
"""Internal information. In production it is not on the public port: use METRICS_PORT."""


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Liveness")
async def healthz() -> shapes.Alive:
    """200 whenever the process answers."""
    return shapes.Alive(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses=documented("not_ready"), summary="Readiness")
async def readyz(services: With) -> shapes.Alive:
    """200 if the database (this revision or a newer one) and Redis (without eviction) take writes;
    else 503 with the reason.
    """
    checks = await services.readiness.checks()
    if any(found != "ok" for found in checks.values()):
        raise ApiProblem("not_ready", "Something that is needed is not there yet.", checks=checks)
    return shapes.Alive(status="ok")


@internals.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    summary="Prometheus metrics",
)
async def metrics(services: With) -> Response:
    """Counters of this process since its start."""
    return Response(services.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})
